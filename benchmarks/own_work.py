"""What `confirm` and `resume` do before they train, and `export` does: seconds after imports, without Ray and with it.

    python benchmarks/own_work.py [--rounds 3]

On the packaged MiniLM and news headlines, with the settings of `autopeft search --demo` and in the space `default`. One
search of three trials is interrupted while the third trains: `resume` goes on with copies of it. Another one has ended:
`confirm` trains the front of copies again. Each round is a process of its own, as for a user, with two threads at most.
Clocks begin when everything is imported. Without Ray they end where the first training begins, and the start of the
worker, which loads the backbone again, counts. With Ray they end where a worker starts to train, which imports all
libraries in a process of its own. Seconds of the processor are those of the driver. `export` gives the best trial away,
as a method and merged, its checks of logits included.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

import autopeft
from autopeft.data.demo import demo_data, demo_model
from autopeft.errors import CannotMerge
from autopeft.events import Doing, Event, TrialReported
from autopeft.searching.search import Search

SPACES: dict[str, dict[str, Any]] = {"quick": {"sampler": "tpe"}, "default": {}}
"""With their samplers, as the demo has them and as they are."""
MOST = 5.0
"""Seconds without Ray."""
OVER = "over"
"""What is not counted any more."""


def where(folder: Path) -> dict[str, Any]:
    return {"storage": f"sqlite:///{folder}/searches.db", "folder": str(folder / "runs")}


def search(folder: Path, space: str) -> None:
    """Makes two searches: `ended`, and `begun`, which is interrupted."""
    paths: dict[str, Any] = {"model": str(demo_model()), "data": str(demo_data(folder / "demo")), **where(folder)}
    settings: dict[str, Any] = {"space": space, "max_length": 32, "trials": 3, "workers": 0, **SPACES[space]}

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialReported) and event.trial.number == 3:
            raise KeyboardInterrupt

    autopeft.search(**paths, **settings, name="ended")
    try:
        autopeft.search(**paths, **settings, name="begun", on_event=interrupt)
    except KeyboardInterrupt:
        return


def once(call: str, folder: Path, workers: int) -> list[tuple[str, float, float]]:
    """In a process of its own: what is done, each with the seconds at which it begins, by the clock and of the
    processor; the last is training, or the end.
    """
    import autopeft.artifacts.exporting
    import autopeft.searching.here
    import autopeft.searching.on_ray
    import autopeft.searching.sitting

    steps: list[tuple[str, float, float]] = []
    began, used = time.perf_counter(), time.process_time()

    def note(what: str) -> None:
        steps.append((what, time.perf_counter() - began, time.process_time() - used))

    def hear(event: Event) -> None:
        if isinstance(event, Doing) and not event.what.startswith("training the front"):
            note(event.what)

    def train(*_: Any, **__: Any) -> Any:
        note(OVER)
        raise KeyboardInterrupt

    if call == "export":
        trial = Search("ended", where(folder)["storage"]).select()
        note("a method")
        trial.save(folder / "method")
        note("merged")
        with suppress(CannotMerge):
            trial.save(folder / "merged", merge=True)
        note(OVER)
        return steps
    begins = (
        "autopeft.searching.on_ray.Passing.started" if workers else "autopeft.searching.worker.TrainingWorker.train"
    )
    try:
        with patch(begins, train):
            if call == "resume":
                autopeft.resume("begun", workers=workers, on_event=hear, **where(folder))
            else:
                opened = Search("ended", where(folder)["storage"])
                opened.confirm(1, workers=workers, on_event=hear, folder=where(folder)["folder"])
    except KeyboardInterrupt:
        pass
    return steps


def timed(call: str, folder: Path, workers: int) -> tuple[float, float, dict[str, float]]:
    """Seconds by the clock and of the processor, and of each step by the clock, in a new process on a copy."""
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(folder, Path(place) / "copy")
        told = subprocess.run(
            [sys.executable, __file__, "--once", call, str(copy), str(workers)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    steps = json.loads(told.splitlines()[-1])
    assert steps[-1][0] == OVER, told
    taken: dict[str, float] = {}
    for (what, begins, _), (_, ends, _) in pairwise(steps):
        taken[what] = taken.get(what, 0.0) + ends - begins
    return steps[-1][1], steps[-1][2], taken


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        call, folder, workers = given.once
        print(json.dumps(once(call, Path(folder), int(workers))), flush=True)
        return
    console = Console(width=120)
    for space in SPACES:
        with tempfile.TemporaryDirectory() as place:
            search(Path(place), space)
            table = Table("call", "workers", "seconds", "least … most", "of the processor", "of these")
            for workers, call in (*product((0, 1), ("resume", "confirm")), (0, "export")):
                rounds = [timed(call, Path(place), workers) for _ in range(given.rounds)]
                wall = [each[0] for each in rounds]
                steps = {what: median(each[2].get(what, 0.0) for each in rounds) for what in rounds[0][2]}
                most = sorted(steps.items(), key=lambda step: -step[1])[:4]
                table.add_row(
                    call,
                    str(workers),
                    f"{median(wall):.1f}{' (too long)' * (workers == 0 and median(wall) > MOST)}",
                    f"{min(wall):.1f} … {max(wall):.1f}",
                    f"{median(each[1] for each in rounds):.1f}",
                    ", ".join(f"{what} {seconds:.1f}" for what, seconds in most),
                )
            console.print(f"space {space}", table)


if __name__ == "__main__":
    main()
