"""How much faster a step is whose frozen layers' states are kept, and what the first pass pays for keeping them.

    python benchmarks/frozen.py [NAME …] [--data ../shared/data] [--rows 160] [--rounds 3] [--fp32]

MiniLM on texts of sst2, DINOv2-small on photographs of cifar10, at batch size 32 and the precision of trials. `plain`
is the loop without a store, and `with dropout` the same where frozen layers have it, too; `filling` is the same epoch
with a store that is empty, and `filled` with one that an epoch in another order filled. All train the same candidate,
in turn, in one process. Seconds are the processor's, on one thread, so that other work on the machine hardly matters;
of each step the fastest round counts, and the first step of a run does not. `try` is what comes before the first step,
`losses apart` how far the epoch's mean losses lie from that of the plain run, at most, and `kept` what the store takes,
beside what it may.
"""

import argparse
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from autopeft.backbone.load import Backbone, load_backbone
from autopeft.data.demo import demo_model
from autopeft.data.states import free, own_share, room
from autopeft.data.store import Dataset, open_split
from autopeft.methods.attached import Attached, attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.base import Task
from autopeft.tasks.understanding import encoded, understand
from autopeft.training import precision
from autopeft.training.frozen import FrozenStates
from autopeft.training.loop import train
from autopeft.training.model import TaskModel

BATCH, WARM = 32, 1
CPU = torch.device("cpu")
LAST_HALF, LAST_QUARTER = "last 50%", "last 25%"
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "lora, last half": ("lora", {"layers": LAST_HALF}),
    "lora, last quarter": ("lora", {"layers": LAST_QUARTER}),
    "adapter, last quarter": ("adapter", {"layers": LAST_QUARTER}),
    "top layer": ("top_layers", {"count": 1}),
    "ladder": ("ladder", {}),
}


@dataclass(frozen=True)
class Place:
    """A backbone and rows for it."""

    backbone: Backbone
    task: Task
    train: Dataset
    validation: Dataset


def minilm(data: Path, rows: int, folder: Path) -> Place:
    """On texts."""
    (folder / "rows").mkdir()
    frame = pd.read_csv(data / "sst2" / "train.csv")
    frame.head(rows).to_csv(folder / "rows" / "train.csv", index=False)
    frame.tail(16).to_csv(folder / "rows" / "validation.csv", index=False)
    return _place(str(demo_model()), folder)


def dinov2(data: Path, rows: int, folder: Path) -> Place:
    """On photographs."""
    for split, most in (("train", rows), ("validation", 10)):
        kinds = sorted((data / "cifar10" / split).iterdir())
        for kind in kinds:
            (folder / "rows" / split / kind.name).mkdir(parents=True)
            for file in sorted(kind.iterdir())[: most // len(kinds)]:
                shutil.copy(file, folder / "rows" / split / kind.name)
    return _place(str(data.parent / "models" / "dinov2-small"), folder)


PLACES = {"MiniLM": minilm, "DINOv2-small": dinov2}


def _place(model: str, folder: Path) -> Place:
    backbone, understood = load_backbone(model), understand(str(folder / "rows"))
    task = understood.task.on(backbone)
    understood = replace(understood, task=task)
    tokenized = encoded(understood, backbone, 128, folder / "tokens")
    return Place(backbone, task, open_split(tokenized, "train"), open_split(tokenized, "validation"))


@dataclass(frozen=True)
class Ran:
    """One epoch."""

    steps: np.ndarray
    """Seconds of each."""
    before: float
    """Seconds of trying the store, before the first step."""
    loss: float


def epoch(place: Place, method: str, settings: Mapping[str, Any], store: FrozenStates | None, seed: int = 0) -> Ran:
    """Trains one candidate for one epoch."""
    training = Training(batch_size=BATCH, epochs=1, head_start="random")
    candidate = Candidate(method, (Part(method, settings, 1e-4),), training)
    torch.manual_seed(0)
    backbone, cards = place.backbone, load_cards()
    with attach(backbone.model, configured_parts(candidate.parts, cards), backbone.sites) as attached:
        head = place.task.new_head(backbone.sites.width, training)
        model = TaskModel(backbone.model, head, attached, place.task.inputs)
        ends: list[float] = []
        stepped = attached.stepped

        def noting(step: int, steps: int) -> None:
            stepped(step, steps)
            ends.append(time.process_time())

        began = time.process_time()
        serving = nullcontext() if store is None else store.serving(model, training, CPU)
        with patch.object(attached, "stepped", noting), serving as kept:
            assert kept is None or kept.bytes, kept
            before = time.process_time() - began
            rows, few = (place.train, place.validation) if store is None else (store.train, store.validation)
            (rung,) = train(model, rows, few, candidate, place.task.default_metric, seed=seed, device=CPU, rungs=())
    return Ran(np.diff(ends[WARM - 1 :]), before, rung.loss)


def measured(place: Place, method: str, settings: Mapping[str, Any], rounds: int) -> tuple[str, ...]:
    """One line of the table."""
    runs: dict[str, list[Ran]] = {"with dropout": [], "plain": [], "filling": [], "filled": []}
    store = FrozenStates(place.train, place.validation)
    epoch(place, method, settings, store, seed=1)
    for _ in range(rounds):
        empty = FrozenStates(place.train, place.validation)
        with patch.object(Attached, "still", lambda _: ()):
            runs["with dropout"].append(epoch(place, method, settings, None))
        for name, of in (("plain", None), ("filling", empty), ("filled", store)):
            runs[name].append(epoch(place, method, settings, of))
    fastest = {name: np.min([each.steps for each in ran], 0) for name, ran in runs.items()}
    plain = fastest["plain"].sum()
    tried = min(each.before for each in runs["filling"])
    kept = (*runs["filling"], *runs["filled"])
    apart = max(abs(each.loss - runs["plain"][0].loss) for each in kept)
    return (
        f"{1000 * np.median(fastest['with dropout']):.0f}",
        f"{1000 * np.median(fastest['plain']):.0f}",
        f"{1000 * np.median(fastest['filled']):.0f}",
        f"{plain / fastest['filled'].sum():.2f} x",
        f"{fastest['filling'].sum() / plain - 1:+.1%}",
        f"{1000 * tried:.0f}",
        f"{apart:.1e}",
        f"{store.bytes / 2**20:.0f} of {room(**free(), held=0, share=own_share()) / 2**20:,.0f} MiB",
    )


def main() -> None:
    """Measures all in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PLACES))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fp32", action="store_true", help="compute in fp32 where trials would in bf16")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    fp32 = patch.object(precision, "has_bf16", lambda _: False)
    headings = ("with dropout", "plain, ms a step", "filled", "faster", "filling", "try, ms", "losses apart", "kept")
    table = Table("backbone", "candidate", *headings)
    for name in options.names or PLACES:
        with tempfile.TemporaryDirectory() as folder, fp32 if options.fp32 else nullcontext():
            place = PLACES[name](options.data.resolve(), options.rows, Path(folder))
            for case, (method, settings) in CASES.items():
                table.add_row(name, case, *measured(place, method, settings, options.rounds))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
