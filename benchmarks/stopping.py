"""What early stopping saves, and what it loses: rules side by side on what was trained to its end.

    python benchmarks/stopping.py --runs ../shared/data/hf-peft-suite/metamath.jsonl    # real runs, in random orders
    python benchmarks/stopping.py --table benchmarks/recorded/sst2.csv --in-random-orders   # recorded candidates
    python benchmarks/stopping.py --table benchmarks/recorded/sick-nli.csv              # searches by known_costs
    python benchmarks/stopping.py --table benchmarks/recorded/sst2.csv --sampler random
    python benchmarks/stopping.py --sampler random                                      # synthetic surfaces

Everything is a share of the same search, in the same order or with the same seed, that stops nothing: its seconds, and
the hypervolume over score, memory and trainable parameters, as in `samplers.py`. Only finished trials count, by their
scores on new data (the test rows): as `chosen`, within each budget, by their scores on validation data, which is what a
user does; and the `best` that there is. No rule sees new data.

`product` is what searches do (`autopeft.searching.stopping`). `nearest ends` is what they did before: a trial was
stopped where fewer than three in eight of the finished trials that were nearest to it at the rung gained enough to
bring it above all that cost no more. Whoever `promotes` keeps what it stops at its rung: as others go on, some turns
out to be worth training on.
"""

import argparse
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from samplers import BUDGETS, FIRST_SEED, OBJECTIVES, SCALES, Measure, Never, Replayed, Rule, quartiles
from surfaces import Recorded, Surface, Synthetic, costs_in

from autopeft.searching.extrapolation import ends
from autopeft.searching.stopping import Stopping
from autopeft.space.candidate import Candidate, Part
from autopeft.trial import Costs, Rung, Status, Trial

Array = NDArray[np.float64]

ROWS = 50
"""Validation rows of the real runs."""
RUNGS = ((1 / 9, 1 / 3), (1 / 9, 1 / 5, 1 / 3), (1 / 7, 1 / 3), (1 / 9, 1 / 3, 2 / 3))
"""Rungs before the end; the first are the product's."""
CHANCE = 3 / 8


class NearestEnds:
    """The rule before this one."""

    def __init__(self) -> None:
        self._finished: list[Trial] = []

    def expect(self, costs: Costs) -> None:
        pass

    def learn(self, trial: Trial) -> None:
        if trial.status is Status.FINISHED:
            self._finished.append(trial)

    def goes_on(self, trial: Trial) -> bool:
        rivals = [other.value("score") for other in self._finished if _costs_no_more(other, trial)]
        possible = ends(trial.curve, (other.curve for other in self._finished))
        return not rivals or len(possible) == 0 or bool(np.mean(possible >= max(rivals)) >= CHANCE)


RULES: Mapping[str, Callable[[], Rule]] = {
    "all to their ends": Never,
    "nearest ends": NearestEnds,
    "product": lambda: Stopping(OBJECTIVES),
}


@dataclass(frozen=True)
class Run:
    """A training that went to its end, evaluated many times."""

    trial: Trial
    """With all its evaluations as rungs."""
    test: float

    def at(self, rungs: Sequence[float]) -> Trial:
        """With the evaluations nearest to these shares of the steps, and the last; losses are means since the rung
        before.
        """
        curve, every, before = [], self.trial.curve, 0
        for share in (*rungs, 1.0):
            upto = max(before + 1, math.floor(share * len(every) + 0.5))
            loss = float(np.mean([each.loss for each in every[before:upto]]))
            curve.append(replace(every[upto - 1], loss=loss))
            before = upto
        return replace(self.trial, curve=tuple(curve))


def runs_of(path: Path) -> list[Run]:
    """Memory is what was reserved at most; seconds of evaluations are scaled to those of the whole training."""
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        steps, scores, losses, seconds = zip(*row["curve"], strict=True)
        whole = np.cumsum(seconds) / sum(seconds) * row["train_seconds"]
        curve = tuple(
            Rung(step, steps[-1], score, math.sqrt(score * (1 - score) / ROWS), loss, float(until))
            for step, score, loss, until in zip(steps, scores, losses, whole, strict=True)
        )
        costs = Costs(row["trainable"], row["memory_reserved_max"], row["file_bytes"], 1)
        candidate = Candidate(row["experiment"], (Part(row["experiment"]),))
        runs.append(Run(Trial(number, candidate, costs, {}, seed=0, curve=curve), row["test_accuracy"]))
    return runs


def runs_of_table(path: Path) -> list[Run]:
    """Recorded candidates that finished, each once, with their rungs."""
    surface = Recorded(path)
    runs = []
    for number, (candidate, row) in enumerate(surface.candidates, 1):
        curve = tuple(surface.curve(candidate))
        runs.append(Run(Trial(number, candidate, costs_in(row), {}, seed=0, curve=curve), float(row["test"])))
    return runs


def replayed(
    runs: Sequence[Run], order: Sequence[int], rungs: Sequence[float], rule: Rule, promotes: bool = False
) -> tuple[list[int], float]:
    """Which of the runs finish, in their order, and the seconds that all took; costs of all are known before. Where the
    rule `promotes`, what it stops waits at its rung, and goes on when the rule lets it, after others have gone on.
    """
    for run in runs:
        rule.expect(run.trial.predicted)
    whole = [run.at(rungs) for run in runs]
    reached: dict[int, int] = {}
    finished: list[int] = []

    def at_rung(at: int) -> Trial:
        ended = reached[at] == len(whole[at].curve)
        status = Status.FINISHED if ended else Status.TRAINING
        return replace(whole[at], curve=whole[at].curve[: reached[at]], status=status)

    def train(at: int) -> None:
        while True:
            reached[at] = reached.get(at, 0) + 1
            rule.learn(trial := at_rung(at))
            if trial.status is Status.FINISHED:
                finished.append(at)
                return
            if not rule.goes_on(trial):
                return

    def worth_it() -> int | None:
        waiting = (at for at in reached if at not in finished)
        return next((at for at in waiting if rule.goes_on(at_rung(at))), None)

    for at in order:
        train(at)
        while promotes and (promoted := worth_it()) is not None:
            train(promoted)
    return finished, sum(whole[at].curve[count - 1].seconds for at, count in reached.items())


class Volumes:
    """Hypervolumes of finished runs."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._seen = np.array([run.trial.curve[-1].score for run in runs])
        self._test = np.array([run.test for run in runs])
        costs = np.array([[run.trial.value(each.key) for each in OBJECTIVES if not each.is_score] for run in runs])
        low, high = costs.min(axis=0), costs.max(axis=0)
        share = np.random.default_rng(0).random((BUDGETS, costs.shape[1]))
        budgets = {"log": low * (high / low) ** share, "plain": high * share}
        self._fits = {scale: (costs[:, None] <= each[None]).all(axis=2) for scale, each in budgets.items()}

    def of(self, finished: Sequence[int], scale: str) -> tuple[float, float]:
        """By the best on new data, and by those that are chosen on validation data, the first of equals."""
        fits = self._fits[scale][list(finished)]
        test, seen = self._test[list(finished)], self._seen[list(finished)]
        best = np.where(fits, test[:, None], 0.0).max(axis=0)
        at = np.where(fits, seen[:, None], -1.0).argmax(axis=0)
        chosen = np.where(fits.any(axis=0), test[at], 0.0)
        return float(best.mean()), float(chosen.mean())


Shares = dict[str, dict[str, list[float]]]
"""By row and column, one for each seed."""


def of_runs(runs: Sequence[Run], seeds: int, several: Sequence[Sequence[float]]) -> Shares:
    """With `several` sets of rungs."""
    volumes = Volumes(runs)
    everything = sum(run.trial.curve[-1].seconds for run in runs)
    shares: Shares = {}
    for seed in range(seeds):
        order = [int(at) for at in np.random.default_rng(FIRST_SEED + seed).permutation(len(runs))]
        whole = {scale: volumes.of(order, scale) for scale in SCALES}
        for name, promotes, rungs in itertools.product(("nearest ends", "product"), (False, True), several):
            finished, seconds = replayed(runs, order, rungs, RULES[name](), promotes)
            row = shares.setdefault(f"{name}{' promotes' * promotes}, rungs at {_shown(rungs)}", {})
            row.setdefault("seconds", []).append(seconds / everything)
            row.setdefault("finished", []).append(len(finished) / len(runs))
            for scale in SCALES:
                both = zip(("best", "chosen"), volumes.of(finished, scale), whole[scale], strict=True)
                for how, volume, all_of_them in both:
                    row.setdefault(f"{how}, {scale}", []).append(volume / all_of_them)
        print(f"seed {seed} done", flush=True)
    return shares


def of_searches(table: Path | None, sampler: str, seeds: int, trials: int, workers: int) -> Shares:
    shares: Shares = {}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        surface: Surface = Recorded(table) if table else Synthetic(seed)
        measures = {scale: Measure(surface, scale) for scale in SCALES}
        whole: dict[str, float] = {}
        for name, rule in RULES.items():
            found = Replayed(surface, sampler, seed, stopping=rule()).run(trials, workers)
            got = {f"chosen, {scale}": float(measures[scale].growing(found.trials)[-1]) for scale in SCALES}
            got["seconds"] = sum(trial.curve[-1].seconds for trial in found.trials)
            got["finished"] = float(sum(trial.status is Status.FINISHED for trial in found.trials))
            whole = whole or got
            for column, value in got.items():
                shares.setdefault(name, {}).setdefault(column, []).append(value / whole[column])
        print(f"seed {seed} done: {_last(shares)}", flush=True)
    return shares


def table_of(shares: Shares, title: str) -> Table:
    shown = Table(title=f"{title}: mean, then quartiles", box=box.MARKDOWN)
    columns = ("seconds", "finished", *sorted(set(next(iter(shares.values()))) - {"seconds", "finished"}))
    for heading in ("rule", *columns):
        shown.add_column(heading, justify="left" if heading == "rule" else "right")
    for name, row in shares.items():
        shown.add_row(name, *(f"{np.mean(row[column]):.3f}, {quartiles(row[column])}" for column in columns))
    return shown


def _costs_no_more(one: Trial, other: Trial) -> bool:
    return all(one.value(each.key) <= other.value(each.key) for each in OBJECTIVES if not each.is_score)


def _last(shares: Shares) -> str:
    return "; ".join(f"{name} {row['chosen, log'][-1]:.3f} in {row['seconds'][-1]:.3f}" for name, row in shares.items())


def _shown(rungs: Sequence[float]) -> str:
    return " ".join(f"1/{1 / share:.2g}" for share in rungs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="real runs with their curves, one JSON object a line")
    parser.add_argument("--table", type=Path, help="recorded candidates instead of synthetic surfaces")
    parser.add_argument("--in-random-orders", action="store_true", help="its rows as they are, instead of searches")
    parser.add_argument("--more-rungs", action="store_true", help="also at other points of real runs")
    parser.add_argument("--sampler", default="known_costs")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.runs:
        shares = of_runs(runs_of(options.runs), options.seeds, RUNGS if options.more_rungs else RUNGS[:1])
    elif options.table and options.in_random_orders:
        shares = of_runs(runs_of_table(options.table), options.seeds, RUNGS[:1])
    else:
        shares = of_searches(options.table, options.sampler, options.seeds, options.trials, options.workers)
    Console(width=240).print(table_of(shares, f"shares of what training all to their ends has, {options.seeds} seeds"))


if __name__ == "__main__":
    main()
