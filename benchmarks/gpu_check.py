"""Whether all works on this machine's GPU: six methods are predicted, trained and measured, in this process.

    python benchmarks/gpu_check.py [--tiny] [--minutes 8]

A causal model with random weights, made of a configuration, learns to repeat numbers; nothing is downloaded. Each
method is one search of one trial with `--workers 0`. The table has what was predicted of its memory beside what the
device's allocator says, and the loss before and after. Then a winner is saved, loaded and asked. On a GPU the model has
0.3 billion parameters; with --tiny two layers, for a CPU too. Methods that are not reached in the time are named.
Ends in an error where a trial fails, a peak is further off than it may be, or a loss is no number.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import autopeft
from autopeft.backbone.load import quietly
from autopeft.sizes import show_bytes, show_seconds
from autopeft.trial import Status, Trial

METHODS = ("lora", "ia3", "adapter", "prefix_tuning", "norm_tuning", "full")
WITHIN = 0.1
"""How far a predicted peak may be off on a device whose allocator rounds up."""
NUMBERS = 100
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[END]"}
MARKS = ("say", ":")


@dataclass(frozen=True)
class Size:
    """How much is done."""

    width: int
    layers: int
    vocabulary: int
    rows: int
    most: int
    """Numbers in a row, at most."""


FULL, TINY = Size(1024, 16, 32000, 600, 60), Size(64, 2, 128, 48, 6)


def config(size: Size) -> LlamaConfig:
    heads = max(2, size.width // 64)
    return LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=2,
    )


def made(folder: Path, size: Size) -> tuple[Path, Path]:
    """A model with its tokenizer, and a data set, in folders."""
    torch.manual_seed(0)
    with quietly():
        LlamaForCausalLM(config(size)).save_pretrained(folder / "model")
    words = [*SPECIAL.values(), *MARKS, *map(str, range(NUMBERS))]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)
    (folder / "data").mkdir()
    for split, rows in (("train", size.rows), ("validation", size.rows // 4)):
        lines = []
        for count in draw.integers(1, size.most, rows):
            numbers = " ".join(map(str, draw.integers(0, NUMBERS, count)))
            lines.append(json.dumps({"prompt": f"say {numbers} :", "completion": f" {numbers}"}))
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "model", folder / "data"


def searched(method: str, model: Path, data: Path, folder: Path) -> autopeft.Search:
    """One trial of a method, in this process."""
    return autopeft.search(
        model=str(model),
        data=str(data),
        task="text-generation",
        methods=(method,),
        trials=1,
        name=method,
        workers=0,
        storage=f"sqlite:///{folder}/searches.db",
        folder=str(folder / "runs"),
    )


def row_of(search: autopeft.Search, method: str, seconds: float) -> tuple[tuple[str, ...], bool]:
    """A line of the table, and whether all is as it must be."""
    (trial,) = search.trials
    outcome = trial.outcome
    if outcome is None or outcome.status is not Status.FINISHED or outcome.measured is None:
        return (method, outcome.reason if outcome else "did not end", *["-"] * 5, show_seconds(seconds)), False
    predicted, measured = trial.predicted.memory, outcome.measured.memory
    off = predicted / measured - 1
    losses = _losses(search, trial)
    good = abs(off) <= WITHIN and all(map(math.isfinite, losses))
    costs = f"{trial.predicted.trainable:,}", show_bytes(predicted), show_bytes(measured), f"{off:+.1%}"
    before, after = losses
    said = "good" if good else "WRONG"
    return (method, said, *costs, f"{before:.3f} -> {after:.3f}", show_seconds(seconds)), good


def _losses(search: autopeft.Search, trial: Trial) -> tuple[float, float]:
    """Of the backbone as it is, and after training."""
    baselines = search.record.baselines
    before = next(iter(baselines.values())).score if baselines else math.nan
    return before, math.nan if trial.score is None else trial.score


def loads(search: autopeft.Search, folder: Path) -> bool:
    """Whether a saved winner gives logits that are numbers when it is loaded."""
    search.select().save(folder)
    logits: Any = autopeft.load(str(folder)).logits(["say 1 2 3 :"])
    return bool(np.isfinite(np.asarray(logits, dtype=np.float64)).all())


def main(arguments: list[str] | None = None) -> bool:
    """Whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="Two layers, for any device.")
    parser.add_argument("--minutes", type=float, default=8.0, help="No method begins after two thirds of that.")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    columns = ("method", "is", "trainable", "predicted", "measured", "off", "loss", "time")
    table, all_good, first = Table(*columns, box=None, title=f"on {device}"), True, None
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        model, data = made(folder, TINY if args.tiny else FULL)
        for method in METHODS:
            start = time.monotonic()
            if start - began > 60 * args.minutes * 2 / 3:
                table.add_row(method, "not reached", *["-"] * 6)
                all_good = False
                continue
            search = searched(method, model, data, folder)
            row, good = row_of(search, method, time.monotonic() - start)
            table.add_row(*row)
            all_good, first = all_good and good, first or search
        loaded = first is not None and loads(first, folder / "winner")
    Console(width=140).print(table)
    print(f"a saved winner {'gives' if loaded else 'DOES NOT GIVE'} logits when it is loaded")
    print(f"took {show_seconds(time.monotonic() - began)}")
    return all_good and loaded


if __name__ == "__main__":
    sys.exit(not main())
