"""Every task on real data: what a search of 16 trials in the default space finds, beside the best baseline and LoRA.

    python benchmarks/tasks.py [NAME …] [--data ../shared/data] [--trials 16] [--workers 2]

MiniLM for texts, DINOv2-small for photographs; scores on validation data with their standard errors, which say nothing
of having chosen the best of many. LoRA is trained once, at the defaults of its card. Each data set's line is kept in
`recorded/tasks.json`, so that one may be run at a time; without names the whole table is printed.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import autopeft
from autopeft.data.demo import demo_model
from autopeft.trial import Status, Trial

RECORDED = Path(__file__).parent / "recorded" / "tasks.json"
SEED = 0


@dataclass(frozen=True)
class Case:
    """A data set, made where it has to be, and which model and plan it is for."""

    folder: Callable[[Path, Path], Path]
    """Where its files lie, from where all data lie and a folder to write into."""
    plan: dict[str, Any]
    photographs: bool = False


def _lying(name: str) -> Callable[[Path, Path], Path]:
    return lambda data, _: data / name


def _entity_types(data: Path, made: Path) -> Path:
    """Which types of entities a message holds: several labels, or none."""
    for split in ("train", "validation"):
        rows = [json.loads(line) for line in (data / "wnut17" / f"{split}.jsonl").read_text().splitlines()]
        kept = [
            {"text": " ".join(row["tokens"]), "labels": sorted({tag[2:] for tag in row["tags"] if tag != "O"})}
            for row in rows
        ]
        (made / f"{split}.jsonl").write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    return made


CASES = {
    "sst2": Case(_lying("sst2"), {"task": "text-classification"}),
    "mrpc": Case(_lying("mrpc"), {"task": "text-classification"}),
    "sick-similarity": Case(_lying("sick-similarity"), {"task": "text-regression"}),
    "wnut17-types": Case(_entity_types, {"task": "multi-label-classification"}),
    "wnut17": Case(_lying("wnut17"), {"task": "token-classification"}),
    "cifar10": Case(_lying("cifar10"), {"task": "image-classification"}, photographs=True),
}


def found(case: Case, data: Path, trials: int, workers: int) -> dict[str, Any]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "data").mkdir()
        common: dict[str, Any] = {
            "model": str(data.parent / "models" / "dinov2-small" if case.photographs else demo_model()),
            "data": str(case.folder(data, folder / "data")),
            "seed": SEED,
            "storage": f"sqlite:///{folder}/searches.db",
            "folder": str(folder / "runs"),
            **case.plan,
        }
        began = time.perf_counter()
        search = autopeft.search(trials=trials, workers=workers, **common)
        minutes = (time.perf_counter() - began) / 60
        lora = autopeft.search(methods=("lora",), trials=1, workers=0, **common).trials[0]
        baselines = search.record.baselines
        metric = search.record.metric
        best = max(
            (trial for trial in search.trials if trial.status is Status.FINISHED),
            key=lambda trial: metric.sign * trial.value("score"),
        )
        name, baseline = max(baselines.items(), key=lambda pair: metric.sign * pair[1].score)
        return {
            "metric": metric.name,
            "baseline": {"name": name, "score": baseline.score, "error": baseline.error},
            "best": {"name": best.candidate.name, **_score(best)},
            "lora": _score(lora),
            "finished": sum(trial.status is Status.FINISHED for trial in search.trials),
            "minutes": minutes,
        }


def _score(trial: Trial) -> dict[str, float | None]:
    return {"score": trial.value("score"), "error": trial.error}


def _shown(line: dict[str, Any]) -> str:
    return f"{line['score']:.3f} ± {line['error']:.3f}"


def table(lines: dict[str, dict[str, Any]]) -> Table:
    """What is recorded, for people."""
    shown = Table("data", "metric", "best trial", "best baseline", "LoRA at its defaults", "finished", "minutes")
    for name, line in lines.items():
        best, baseline = line["best"], line["baseline"]
        shown.add_row(
            name,
            line["metric"],
            f"{_shown(best)} ({best['name']})",
            f"{_shown(baseline)} ({baseline['name']})",
            _shown(line["lora"]),
            str(line["finished"]),
            f"{line['minutes']:.0f}",
        )
    return shown


def main() -> None:
    """Runs what is named, keeps it and prints all that is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    lines = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    for name in options.names:
        lines[name] = found(CASES[name], options.data.resolve(), options.trials, options.workers)
        RECORDED.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    Console(width=150).print(table(lines))


if __name__ == "__main__":
    main()
