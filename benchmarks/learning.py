"""What every method learns: each at its card's defaults, trained once on the same data, beside the linear probe.

    python benchmarks/learning.py [--data ../shared/data/sst2] [--workers 2] [--methods lora,far] [--table learning.md]

The backbone is the packaged MiniLM, the data by default SST-2 (6,920 sentences to train, 872 to validate), training
that of the space `default` without early stopping: one epoch of batches of 32. One seed; the standard error of an
accuracy stands above the table. What has been trained is kept in `--kept` and not trained again.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from autopeft.data.demo import demo_model
from autopeft.objectives import show
from autopeft.plan import Plan
from autopeft.searching.on_ray import train_on_ray
from autopeft.searching.preparation import prepare
from autopeft.space.space import Space
from autopeft.trial import Baseline, Outcome, Rung, Status, Trial

SEED = 0


@dataclass
class Ledger:
    """Gives the trials in turn, stops none, and keeps each result in a file as it arrives."""

    trials: list[Trial]
    kept: Path
    curves: dict[int, list[Rung]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def next(self) -> Trial | None:
        if not self.trials:
            return None
        trial = self.trials.pop(0)
        self.names[trial.number] = trial.candidate.name
        self.curves[trial.number] = []
        return trial

    def rung(self, number: int, rung: Rung) -> bool:
        self.curves[number].append(rung)
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        result: dict[str, Any] = {"method": self.names[number], "status": outcome.status, "reason": outcome.reason}
        if outcome.status is Status.FINISHED and outcome.measured is not None:
            result |= {
                "accuracy": self.curves[number][-1].score,
                "trainable": outcome.measured.trainable,
                "memory": outcome.measured.memory,
                "seconds": outcome.seconds,
            }
        with self.kept.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result) + "\n")
        print(f"{result['method']}: {show('score', result.get('accuracy'))} {outcome.reason}", flush=True)


def read(kept: Path) -> Mapping[str, Mapping[str, Any]]:
    """Results by method; the last one counts."""
    if not kept.exists():
        return {}
    results = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
    return {result["method"]: result for result in results}


def heading(baselines: Mapping[str, Baseline], rows: int, data: str) -> str:
    """What the table is of, and how uncertain its accuracies are."""
    error = baselines["linear probe"].error
    return (
        f"What every method learns at its defaults: MiniLM on {data}, one epoch, {rows} validation rows, standard "
        f"error {error:.3f}, seed {SEED}. Made by `python benchmarks/learning.py --table benchmarks/learning.md`."
    )


def table(results: Mapping[str, Mapping[str, Any]], space: Space, baselines: Mapping[str, Baseline]) -> Table:
    """Results from the most accurate method to the least, the baselines among them."""
    shown = Table(box=box.MARKDOWN)
    for column in ("method", "accuracy", "over majority", "trainable", "peak memory", "seconds"):
        shown.add_column(column, justify="left" if column == "method" else "right")
    lines = [
        (
            result["accuracy"],
            name,
            show("trainable", result["trainable"]),
            show("memory", result["memory"]),
            f"{result['seconds']:.0f}",
        )
        for name, result in results.items()
        if "accuracy" in result and name in (*space.methods, *space.hybrids)
    ]
    lines += [(each.score, f"({name})", "", "", "") for name, each in baselines.items()]
    majority = baselines["majority class"].score
    for accuracy, name, *rest in sorted(lines, key=lambda line: -line[0]):
        shown.add_row(name, f"{accuracy:.3f}", f"{accuracy - majority:+.3f}", *rest)
    return shown


def main() -> None:
    """Trains what has not been trained yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "sst2"))
    parser.add_argument("--methods", default="", help="names with commas; by default all of the space 'default'")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=Path("learning"), help="folder for results and trained weights")
    parser.add_argument("--table", type=Path, help="file for the table, in Markdown")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    methods = tuple(name for name in options.methods.split(",") if name)
    plan = Plan(str(demo_model()), options.data, methods=methods, seed=SEED)
    prepared = prepare(plan, options.kept.absolute(), "trained", print)
    space, file = prepared.space, options.kept / "results.jsonl"
    for name, reason in space.refused.items():
        print(f"{name} is refused: {reason}")
    done = read(file)
    kinds = [kind for kind in (*space.methods, *space.hybrids) if kind not in done]
    candidates = [space.defaults(kind) for kind in kinds]
    trials = [
        Trial(number, candidate, prepared.predict(candidate), {}, SEED)
        for number, candidate in enumerate(candidates, start=1 + len(done))
    ]
    if trials:
        train_on_ray(Ledger(trials, file), prepared.job, workers=options.workers)
    rows = int(prepared.facts["validation_rows"])
    console = Console(width=120)
    with console.capture() as printed:
        console.print(table(read(file), space, prepared.baselines))
    lines = [line.rstrip() for line in printed.get().splitlines() if line.strip()]
    text = "\n".join([heading(prepared.baselines, rows, Path(options.data).name), "", *lines, ""])
    print(text)
    if options.table is not None:
        options.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
