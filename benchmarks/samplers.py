"""Which sampler finds the best front in the fewest trials: replayed on surfaces that answer at once.

    python benchmarks/samplers.py                                          # synthetic surfaces, another for every seed
    python benchmarks/samplers.py --table benchmarks/recorded/sst2.csv     # real candidates, see record.py
    python benchmarks/samplers.py --seeds 5 --trials 50 --plot samplers.html
    python benchmarks/samplers.py --samplers known_costs,moasha,qnehvi     # other tools, see rivals.py
    python benchmarks/samplers.py --by seconds --workers 2                 # until random's seconds have passed

Objectives are accuracy, peak memory and trainable parameters. Searches are as autopeft runs them: a portfolio first,
early stopping, and any number of workers, whose clock is simulated; other tools have no portfolio, and their own
stopping or none. `random alone` has neither, and its hypervolume after all trials is 1 in every column. The hypervolume
is an average over budgets spread evenly between the least and the largest costs; on logarithmic scales (`log`), where
halving a cost is worth the same everywhere, or on plain ones (`plain`), as in reports. Within a budget the finished
trial counts that did best on validation data, with its accuracy on new data: the test rows of a recorded candidate, the
true value of a synthetic one. So a search gains nothing by drawing more lots.

Our searches are told beforehand how many seconds a candidate takes: its true ones times an error, which a candidate
keeps, and whose logarithm has a standard deviation of 0.15. Those that are called `blind` are not. By seconds, each
search goes on until as many have passed as `random alone` took for its trials; what is still training then is lost.
`good end` is the share of seeds on which, after eight trials, the best score on validation data is that of the better
one of LoRA and adapters at their defaults, or at most a standard error lower.
"""

import argparse
import hashlib
import heapq
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rivals import RIVALS, Moasha, Random, rival
from surfaces import Recorded, Surface, Synthetic

from autopeft.objectives import objectives_named
from autopeft.plan import SAMPLERS
from autopeft.searching.portfolio import portfolio
from autopeft.searching.proposer import Proposer
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.searching.stopping import Stopping
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.trial import Costs, Outcome, Status, Trial

OBJECTIVES = objectives_named(("score", "memory", "trainable"))
COSTS = ("memory", "trainable")
ALONE = "random alone"
SCALES = ("log", "plain")
BUDGETS = 4000
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Of the seconds of `random alone`."""
GOOD, FIRST = ("adapter", "lora"), 8
"""What the best score of so many first trials is to reach."""
MANY = 1000
"""Trials at most of a search that goes by seconds."""
FIRST_SEED = 1000
"""Settings of our sampler were chosen on surfaces of smaller seeds, so these tell nothing of it any more."""
BLIND = " blind"
MISJUDGED = 0.15
"""The standard deviation of the logarithm by which predicted seconds are off."""
DRAWN = 400
"""Random candidates that tell a surface's range of costs."""

Array = NDArray[np.float64]


class Foreseen:
    """The seconds that candidates take, as they may be predicted: with an error that a candidate keeps."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._known: dict[int, tuple[Candidate, float]] = {}
        """With the candidates, so that their ids stay theirs."""

    def __call__(self, candidate: Candidate, costs: Costs) -> float:  # noqa: ARG002
        if id(candidate) not in self._known:
            draws = json.dumps(candidate.to_dict(), sort_keys=True).encode()
            chance = np.random.default_rng(int.from_bytes(hashlib.sha256(draws).digest()[:8])).normal()
            seconds = self._surface.curve(candidate)[-1].seconds * math.exp(MISJUDGED * chance)
            self._known[id(candidate)] = candidate, seconds
        return self._known[id(candidate)][1]


@dataclass
class Found:
    """What a search found, in the order in which its trials ended."""

    trials: list[Trial] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    """Simulated seconds since the search began, when each trial ended."""
    proposing: float = 0.0
    """Real seconds that proposals took."""


class Rule(Protocol):
    """What stops trials early; see `autopeft.searching.stopping`."""

    def expect(self, costs: Costs) -> None:
        """What a candidate may cost."""

    def learn(self, trial: Trial) -> None:
        """What a trial has shown so far."""

    def goes_on(self, trial: Trial) -> bool:
        """Whether a trial at a rung is trained on."""


class Never:
    """Stops nothing."""

    def expect(self, costs: Costs) -> None:
        pass

    def learn(self, trial: Trial) -> None:
        pass

    def goes_on(self, trial: Trial) -> bool:  # noqa: ARG002
        return True


class Replayed:
    """A search whose training takes no time."""

    def __init__(
        self,
        surface: Surface,
        sampler: str,
        seed: int,
        *,
        knows: bool = True,
        stopping: Rule | None = None,
    ) -> None:
        """It `knows` good candidates to begin with, and stops trials early by a rule; other tools have their own."""
        self._surface = surface
        seconds = None if sampler.endswith(BLIND) else Foreseen(surface)
        sampler = sampler.removesuffix(BLIND)
        self._stopping = stopping or Never()
        self._goes_on: Callable[[int], bool] = self._ours
        self._proposer: Proposer | Random
        if sampler in RIVALS:
            self._proposer = other = rival(sampler, surface, seed, OBJECTIVES)
            if isinstance(other, Moasha):
                self._goes_on = lambda number: other.goes_on(self._trials[number])
        else:
            self._proposer = Proposer(
                *(surface.space, OBJECTIVES, sampler, seed, surface.costs),
                seconds=seconds,
                spent=self._spent,
            )
            known = portfolio(surface.space, surface.costs, OBJECTIVES, {}, seconds)
            for params in known:
                self._stopping.expect(surface.costs(surface.space.draw(Recalled(params))))
            if knows:
                self._proposer.begin(known)
        self._now, self._limits = 0.0, (math.inf, math.inf)
        self._trials: dict[int, Trial] = {}
        self._reaching: list[tuple[float, int]] = []
        self._found = Found()

    def run(self, trials: int, workers: int, seconds: float = math.inf) -> Found:
        """Trains so many, always so many at a time, or for so long."""
        self._limits = (trials, seconds)
        for _ in range(min(workers, trials)):
            self._begin(0.0)
        while self._reaching and self._reaching[0][0] <= seconds:
            self._now, number = heapq.heappop(self._reaching)
            if self._reaches_a_rung(number, self._now) and len(self._trials) < trials:
                self._begin(self._now)
        return self._found

    def _spent(self) -> float:
        """The part of its trials or seconds."""
        trials, seconds = self._limits
        return min(max(len(self._trials) / trials, self._now / seconds), 1.0)

    def _begin(self, now: float) -> None:
        began = time.perf_counter()
        proposal = self._proposer.propose()
        self._found.proposing += time.perf_counter() - began
        number = len(self._trials) + 1
        costs = self._surface.costs(proposal.candidate)
        self._trials[number] = Trial(number, proposal.candidate, costs, proposal.params, seed=number)
        self._train_on(number, now)

    def _train_on(self, number: int, now: float) -> None:
        """To the next rung."""
        trial = self._trials[number]
        rung = self._surface.curve(trial.candidate)[len(trial.curve)]
        before = trial.curve[-1].seconds if trial.curve else 0.0
        heapq.heappush(self._reaching, (now + rung.seconds - before, number))
        self._trials[number] = replace(trial, curve=(*trial.curve, rung))

    def _reaches_a_rung(self, number: int, now: float) -> bool:
        """Whether that was its end."""
        trial = self._trials[number]
        if trial.curve[-1].step == trial.curve[-1].steps:
            status = Status.FINISHED
        elif not self._goes_on(number):
            status = Status.STOPPED
        else:
            if isinstance(self._proposer, Proposer):
                self._proposer.reach(trial)
            self._train_on(number, now)
            return False
        self._trials[number] = trial = replace(trial, status=status, outcome=Outcome(status))
        self._stopping.learn(trial)
        self._proposer.tell(trial)
        self._found.trials.append(trial)
        self._found.clock.append(now)
        return True

    def _ours(self, number: int) -> bool:
        """Whether our early stopping lets a trial at a rung go on."""
        self._stopping.learn(self._trials[number])
        return self._stopping.goes_on(self._trials[number])


class Measure:
    """Hypervolumes on one surface, over the same budgets for all searches."""

    def __init__(self, surface: Surface, scale: str) -> None:
        self._surface = surface
        rng = np.random.default_rng(0)
        costs = [surface.costs(surface.space.draw(Drawn(rng))) for _ in range(DRAWN)]
        values = np.array([[float(getattr(each, name)) for name in COSTS] for each in costs])
        low, high = values.min(axis=0), values.max(axis=0)
        share = rng.random((BUDGETS, len(COSTS)))
        self._budgets = low * (high / low) ** share if scale == "log" else high * share

    def growing(self, trials: Sequence[Trial]) -> Array:
        """The hypervolume after each trial; what was stopped early adds nothing."""
        chosen, worth, volumes = np.zeros(BUDGETS), np.zeros(BUDGETS), []
        for trial in trials:
            if trial.status is Status.FINISHED:
                costs = [trial.value(name) for name in COSTS]
                better = (self._budgets >= costs).all(axis=1) & (trial.value("score") > chosen)
                chosen[better] = trial.value("score")
                worth[better] = self._surface.worth(trial.candidate)
            volumes.append(worth.mean())
        return np.array(volumes)


@dataclass(frozen=True)
class Growth:
    """One search's hypervolume as a share of what `random alone` has at its end."""

    by_trials: Array
    clock: Array
    """Simulated seconds as a share of what `random alone` took, when each trial ended."""
    proposing: float
    """Real seconds for each proposal."""
    good: bool
    """Whether the first trials reach the front's good end."""

    def after(self, share: float) -> float:
        """When so many of the seconds of `random alone` have passed."""
        ended = int(np.searchsorted(self.clock, share, side="right"))
        return float(self.by_trials[ended - 1]) if ended else 0.0


def reaches_good_end(surface: Surface, trials: Sequence[Trial]) -> bool:
    """Whether the best of them is as good as known good methods at their defaults, within a standard error."""
    best = max(surface.curve(surface.space.defaults(kind))[-1].score for kind in GOOD)
    error = math.sqrt(best * (1 - best) / surface.validation_rows)
    scores = [trial.value("score") for trial in trials if trial.status is Status.FINISHED]
    return max(scores, default=0.0) >= best - error


def quartiles(values: Sequence[float]) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3f} [{low:.3f} {high:.3f}]"


def reaches(growth: Growth) -> float:
    """The trial after which a search has what `random alone` has at its end; infinite if none."""
    enough = np.flatnonzero(growth.by_trials >= 1)
    return float(enough[0] + 1) if len(enough) else float("inf")


def table(growths: Mapping[str, Sequence[Growth]], trials: int, scale: str, by: str) -> Table:
    stops = [at for at in (8, 12, 25, 50, 100, 200) if at <= trials]
    title = f"hypervolume ({scale}), median and quartiles of {len(growths[ALONE])} seeds"
    shown = Table(title=title, box=box.MARKDOWN)
    after = [f"after {share:.0%}" for share in SHARES] if by == "seconds" else [f"after {at}" for at in stops]
    ends = ["trials"] if by == "seconds" else ["trials to 1", "seconds to end"]
    for heading in ("sampler", *after, *ends, "good end", "s/proposal"):
        shown.add_column(heading, justify="left" if heading == "sampler" else "right")
    for name, each in growths.items():
        if by == "seconds":
            values = [[growth.after(share) for growth in each] for share in SHARES]
            ended = [f"{statistics.median(len(growth.clock) for growth in each):.0f}"]
        else:
            values = [[growth.by_trials[at - 1] for growth in each] for at in stops]
            ended = [
                f"{statistics.median(map(reaches, each)):.0f}",
                f"{statistics.median(growth.clock[-1] for growth in each):.2f}",
            ]
        good = f"{statistics.mean(growth.good for growth in each):.2f}"
        proposing = f"{statistics.mean(growth.proposing for growth in each):.2f}"
        shown.add_row(name, *map(quartiles, values), *ended, good, proposing)
    return shown


def plot(growths: Mapping[str, Sequence[Growth]], scale: str) -> go.Figure:
    figure = go.Figure()
    for name, each in growths.items():
        middle = np.median([growth.by_trials for growth in each], axis=0)
        figure.add_scatter(x=np.arange(1, len(middle) + 1), y=middle, name=name, mode="lines")
    figure.update_layout(xaxis_title="trials", yaxis_title=f"hypervolume ({scale}), median")
    return figure


def main() -> None:
    """Runs all samplers on all seeds, and prints a table for each scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="recorded candidates instead of synthetic surfaces")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="names with commas")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--by", choices=("trials", "seconds"), default="trials", help="what all searches have as many of"
    )
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="others after it")
    parser.add_argument("--no-stopping", action="store_true", help="train everything to its end")
    parser.add_argument("--plot", type=Path, help="an HTML file for the curves")
    options = parser.parse_args()
    growths: dict[str, dict[str, list[Growth]]] = {scale: {} for scale in SCALES}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        surface: Surface = Recorded(options.table) if options.table else Synthetic(seed)
        measures = {scale: Measure(surface, scale) for scale in SCALES}
        whole = dict.fromkeys(SCALES, 1.0)
        seconds = math.inf
        for name in (ALONE, *options.samplers.split(",")):
            alone = name == ALONE
            replayed = Replayed(
                surface,
                "random" if alone else name,
                seed,
                knows=not alone,
                stopping=None if alone or options.no_stopping else Stopping(OBJECTIVES),
            )
            by_seconds = options.by == "seconds" and not alone
            found = replayed.run(
                MANY if by_seconds else options.trials, options.workers, seconds if by_seconds else math.inf
            )
            seconds = found.clock[-1] if alone else seconds
            good = reaches_good_end(surface, found.trials[:FIRST])
            for scale, measure in measures.items():
                growing = measure.growing(found.trials)
                whole[scale] = growing[-1] if alone else whole[scale]
                clock, proposing = np.array(found.clock) / seconds, found.proposing / len(found.trials)
                growths[scale].setdefault(name, []).append(Growth(growing / whole[scale], clock, proposing, good))
        print(f"seed {seed} done", flush=True)
    for scale in SCALES:
        Console(width=220).print(table(growths[scale], options.trials, scale, options.by))
    if options.plot:
        pages = [
            plot(growths[scale], scale).to_html(full_html=False, include_plotlyjs=scale == SCALES[0])
            for scale in SCALES
        ]
        options.plot.write_text("".join(pages), encoding="utf-8")


if __name__ == "__main__":
    main()
