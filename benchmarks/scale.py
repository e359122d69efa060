"""What a search of thousands of trials on hundreds of workers costs its driver, without training and without Ray.

    python benchmarks/scale.py [--workers 64,512] [--trials 5000] [--seconds 60]

Trials are answered from a synthetic surface (see `surfaces.py`); everything else is real: the driver's decisions, the
sampler, early stopping and the database. A trial trains for `--seconds` on average on a simulated clock, on which the
driver's own seconds count, too: while it proposes or remembers, no worker that has finished hears from it. So `busy` is
the part of all workers' time in which they train.

Seconds are those of the processor, by parts of the search. `repeats` are proposals that equal another one of the same
search, or differ from one that was being trained only in numbers, by less than a tenth. Memory is the process's own
growth, the database's that of its files.
"""

import argparse
import heapq
import math
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from samplers import Foreseen
from surfaces import Surface, Synthetic

from autopeft.plan import Plan
from autopeft.searching.driver import Driver
from autopeft.searching.finder import Finder
from autopeft.searching.ledger import STOPPED_EARLY
from autopeft.searching.portfolio import portfolio
from autopeft.searching.proposer import Proposer
from autopeft.storage.repository import Repository
from autopeft.trial import Outcome, Rung, SearchRecord, Status, Trial

PARTS = 5
"""Of a search, each with a row of its own."""
ALIKE = 0.1
"""By so much less numbers differ, as logarithms, of what is a repeat."""
MIB = 2**20


@dataclass
class Part:
    """What a part of a search took."""

    proposing: list[float] = field(default_factory=list)
    """Seconds of the processor for each trial that was given."""
    rungs: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    repeats: int = 0
    grown: float = 0.0
    """MiB of the process since the part began."""
    stored: float = 0.0
    """MiB of the database since then."""


class Simulated:
    """A search whose workers train on a clock of its own."""

    def __init__(
        self,
        surface: Surface,
        workers: int,
        trials: int,
        seconds: float,
        folder: Path,
        show: Callable[[Part], None],
    ) -> None:
        """`show` is given each part when it ends."""
        self._surface = surface
        self._show = show
        self._workers, self._trials, self._pace = workers, trials, seconds
        self._folder = folder
        self._repository = Repository(f"sqlite:///{folder}/searches.db")
        record = SearchRecord("scale", Plan("model", "data.csv", trials=trials), datetime.now(UTC))
        self._repository.create(record)
        foreseen = Foreseen(surface)
        proposer = Proposer(
            *(surface.space, record.objectives, "known_costs", 0, surface.costs),
            seconds=foreseen,
            spent=lambda: self._driver.spent,
        )
        proposer.begin(portfolio(surface.space, surface.costs, record.objectives, {}, foreseen))
        finder = Finder(proposer, surface.costs, {}, ahead=False)
        self._driver = Driver(record, finder, self._repository, lambda _: None)
        self._free = 0.0
        """When the driver has done what it does."""
        self._training: dict[int, Trial] = {}
        self._events: list[tuple[float, int, int]] = []
        """When, which trial, and which of its rungs."""
        self._known: set[object] = set()
        self.trained = 0.0
        self._parts: list[Part] = []
        self._sizes: tuple[float, float] = (0.0, 0.0)

    def run(self) -> float:
        """The part of all workers' time in which they train."""
        for _ in range(self._workers):
            self._begin(0.0)
        while self._events:
            now, number, at = heapq.heappop(self._events)
            curve = self._surface.curve(self._training[number].candidate)
            goes_on = self._timed(now, "rungs", partial(self._driver.rung, number, curve[at]))
            if goes_on and at + 1 < len(curve):
                self._train(self._free, number, curve, at + 1)
                continue
            status = Status.STOPPED if at + 1 < len(curve) else Status.FINISHED
            outcome = Outcome(status, STOPPED_EARLY if status is Status.STOPPED else "", curve[at].seconds)
            self._timed(self._free, "ends", partial(self._driver.ended, number, outcome))
            del self._training[number]
            self._begin(self._free)
        self._measure()
        return self.trained / (self._workers * self._free)

    def _begin(self, now: float) -> None:
        if len(self._known) % max(1, self._trials // PARTS) == 0 and len(self._known) < self._trials:
            self._measure()
            self._parts.append(Part())
        trial = self._timed(now, "proposing", self._driver.next)
        if trial is None:
            self._parts[-1].proposing.pop()
            return
        key = tuple(sorted(trial.params.items()))
        alike = any(_alike(trial.params, other.params) for other in self._training.values())
        self._parts[-1].repeats += key in self._known or alike
        self._known.add(key)
        self._training[trial.number] = trial
        self._train(self._free, trial.number, self._surface.curve(trial.candidate), 0)

    def _train(self, now: float, number: int, curve: Sequence[Rung], at: int) -> None:
        """To a rung."""
        share = curve[at].share - (curve[at - 1].share if at else 0.0)
        lasts = share * self._pace * float(np.random.default_rng(number).uniform(0.5, 1.5))
        self.trained += lasts
        heapq.heappush(self._events, (now + lasts, number, at))

    def _timed(self, now: float, what: str, act: Callable[[], Any]) -> Any:
        began = time.process_time()
        done = act()
        took = time.process_time() - began
        getattr(self._parts[-1], what).append(took)
        self._free = max(now, self._free) + took
        return done

    def _measure(self) -> None:
        """The sizes at which a part ends."""
        stored = sum(file.stat().st_size for file in self._folder.iterdir())
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, stored / MIB
        if self._parts:
            self._parts[-1].grown, self._parts[-1].stored = (
                new - old for new, old in zip(now, self._sizes, strict=True)
            )
            self._show(self._parts[-1])
        self._sizes = now


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(_near(value, other[name]) for name, value in one.items())


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and one > 0 < other:
        return abs(math.log(one / other)) < ALIKE
    return bool(one == other)


HEADINGS = ("trials", "ms/proposal", "95 %", "ms/rung", "ms/end", "repeats", "memory MiB", "database MiB")


def row(first: int, part: Part) -> list[str]:
    """What is shown of a part that begins with this trial."""
    return [
        f"{first} to {first + len(part.proposing) - 1}",
        f"{1000 * np.mean(part.proposing):.1f}",
        f"{1000 * np.quantile(part.proposing, 0.95):.1f}",
        *(f"{1000 * np.mean(each):.1f}" if each else "" for each in (part.rungs, part.ends)),
        str(part.repeats),
        f"{part.grown:.1f}",
        f"{part.stored:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="64,512", help="numbers with commas")
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60.0, help="that a whole training takes on average")
    options = parser.parse_args()
    for workers in map(int, options.workers.split(",")):
        print(f"{workers} workers: {', '.join(HEADINGS)}", flush=True)
        rows: list[list[str]] = []

        def show(part: Part, rows: list[list[str]] = rows) -> None:
            first = int(rows[-1][0].split(" to ")[1]) + 1 if rows else 1
            rows.append(row(first, part))
            print(", ".join(rows[-1]), flush=True)

        with tempfile.TemporaryDirectory() as place:
            busy = Simulated(Synthetic(1000), workers, options.trials, options.seconds, Path(place), show).run()
        shown = Table(title=f"{workers} workers, busy {busy:.1%} of the time", box=box.MARKDOWN)
        for heading in HEADINGS:
            shown.add_column(heading, justify="right")
        for each in rows:
            shown.add_row(*each)
        Console(width=140).print(shown)


if __name__ == "__main__":
    main()
