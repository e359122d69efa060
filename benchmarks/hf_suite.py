"""HF peft's own comparison of methods, predicted: 48 runs on Llama-3.2-3B whose memory was measured on an L40S.

    python benchmarks/hf_suite.py FOLDER [--only lora,vera] [--without-ours]

FOLDER holds metamath.jsonl: configurations and figures of huggingface/peft's method_comparison (July 2026). Only the
model's published shape is needed, no weights. Each run is predicted as the suite trains: weights in bf16, what peft
adds in the dtype that peft gives it, no autocast, plain logits of all 4 x 768 tokens. Beside what was measured stands
what the same method needs here: what is trained in fp32, autocast, and the chunked head. Trainable parameters must
be exact. Measured is what torch's allocator had reserved at most, predicted what is alive at most: what it keeps and
does not use is not predicted. Ends in an error where a parameter count is wrong, or the peaks are further off than they
may be.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, ClassVar
from unittest.mock import patch

import peft
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import LlamaConfig

from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.errors import AutopeftError
from autopeft.methods.peft import PeftAttachment
from autopeft.methods.peft_config import fields_of
from autopeft.methods.registry import Configured, Hybrid, method
from autopeft.sizes import show_bytes, show_seconds
from autopeft.space.candidate import Training
from autopeft.tasks.heads import NO_LABEL, Batch
from autopeft.tasks.language_head import LanguageModelHead
from autopeft.tasks.text_generation import TextGeneration
from autopeft.trial import Costs

BATCH, LENGTH = 4, 768
WITHIN, RANKS = 0.05, 0.98
"""How far a peak may be off, and the least rank correlation of all of them."""
MAY_BE_OFF = 2
"""Peaks of 48 that may be further off."""
SECONDS, SECONDS_AT_MOST = 4.0, 20.0
"""What predictions may take: their median, and the slowest."""
READ_OFF = ("num_layers", "token_dim", "num_attention_heads", "num_transformer_submodules")
"""Fields that peft itself fills in from the model, and writes down."""
CAUSAL = "model."
"""Where the decoder lies in the model with its head, which the suite attaches to."""
WITHOUT_HEAD: dict[str, dict[str, Any]] = {
    "PROMPT_TUNING": {"task_type": "FEATURE_EXTRACTION", "prompt_tuning_init": "RANDOM"},
    "P_TUNING": {"task_type": "FEATURE_EXTRACTION"},
}
"""What stands otherwise here: the head is not peft's, and where prompts begin costs nothing."""
OSF = "osf/llama-3.2-3B-rank128"
RANKS_OF_OSF: dict[str, Any] = {"effective_rank": 2944, "rank_pattern": {"k_proj": 896, "v_proj": 896}}
"""128 of each matrix are trained, as the run's published configuration says; the list of figures leaves it out, as it
does that this run alone keeps what is trained in the model's dtype (`autocast_adapter_dtype`).
"""
FIXED_BY = {"lora-fa": "lora_A"}
"""What an optimizer of the suite leaves as it was, by its name."""


def llama_3b() -> LlamaConfig:
    """Llama-3.2-3B's published shape."""
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )


@dataclass(frozen=True)
class Run:
    """One run of the suite."""

    name: str
    config: Mapping[str, Any] | None
    """Of peft; none where the whole model is trained."""
    optimizer: str
    trainable: int
    reserved: int
    """Bytes that torch's allocator had reserved at most."""

    @property
    def method(self) -> Configured:
        """As it is attached here. Raises AutopeftError."""
        found = self._found()
        assert isinstance(found, Configured)
        return found

    def _found(self) -> Configured | Hybrid:
        if not self.config:
            return method("full")
        kind = self.config["peft_type"]
        if kind == "PREFIX_TUNING":
            return method("prefix_tuning", length=self.config["num_virtual_tokens"])
        config_class = PEFT_TYPE_TO_CONFIG_MAPPING[kind].__name__
        given = {name: self.config[name] for name in fields_of(config_class) if name in self.config}
        fields = {name: value for name, value in given.items() if name not in READ_OFF}
        fields |= WITHOUT_HEAD.get(kind, {}) | (RANKS_OF_OSF if self.name == OSF else {})
        if isinstance(target := fields.get("target_modules"), str):
            fields["target_modules"] = target.removeprefix(CAUSAL)
        return Configured(self.name, f"peft.{config_class}", fields, {})


@dataclass(frozen=True)
class Found:
    """What was predicted of a run."""

    run: Run
    costs: Costs | None
    """None where it cannot be attached."""
    ours: Costs | None
    seconds: float
    refused: str = ""

    @property
    def off(self) -> float:
        """By how much the peak is off, as a fraction."""
        assert self.costs is not None
        return self.costs.memory / self.run.reserved - 1


def runs_in(folder: Path) -> Iterator[Run]:
    with (folder / "metamath.jsonl").open(encoding="utf-8") as lines:
        for run in map(json.loads, lines):
            reserved = run["memory_reserved_max"]
            yield Run(run["experiment"], run["peft_config"], run["optimizer"], run["trainable"], reserved)


class PlainLogits(LanguageModelHead):
    """Logits of all tokens, as transformers' own models make them for their loss; they stay until the step is over."""

    prompt: ClassVar = 0
    """Virtual tokens, of which there are logits, too."""

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        states = pad(output, (0, 0, self.prompt, 0)).to(self.embedding.weight.dtype)
        self._logits = self.embedding.linear(states)
        labels = pad(batch["labels"], (self.prompt, 1), value=NO_LABEL)[:, 1:].reshape(-1)
        flat = self._logits.float().view(len(labels), -1)
        return cross_entropy(flat, labels, ignore_index=NO_LABEL, reduction="sum")


class AsInSuite(TextGeneration):
    """Text generation with that head. What the suite trained was not asked whether it is causal: Lily is not."""

    needs: ClassVar[tuple[str, ...]] = ()

    def new_head(self, width: int, training: Training) -> LanguageModelHead:  # noqa: ARG002
        return PlainLogits()


@contextmanager
def as_in_suite(run: Run) -> Iterator[None]:
    """No autocast, and what is trained has the dtype that peft gives it, or the model."""
    began = PeftAttachment.__init__
    fixed = FIXED_BY.get(run.optimizer)

    def begins(self: Any, *given: Any) -> None:
        began(self, *given)
        for module in given[0].modules():
            if "boft_P" in module._buffers:
                # The suite moves nothing after peft, which makes permutations on the CPU.
                object.__setattr__(module, "boft_P", module._buffers.pop("boft_P"))
        for name in [each for each in self._trainable if fixed is not None and fixed in each]:
            self._trainable.pop(name).requires_grad_(False)

    with ExitStack() as stack:
        for module in ("training.precision", "training.loss", "costs.evaluating", "costs.predict"):
            stack.enter_context(patch(f"autopeft.{module}.autocast", lambda *_: nullcontext()))
        for module in ("peft", "in_place"):
            stack.enter_context(patch(f"autopeft.methods.{module}.widened", lambda *_: []))
        stack.enter_context(patch.object(PeftAttachment, "__init__", begins))
        if run.name == OSF:
            as_it_is = functools.partial(peft.get_peft_model, autocast_adapter_dtype=False)
            stack.enter_context(patch.object(peft, "get_peft_model", as_it_is))
        config = run.config or {}
        if config.get("peft_type") in WITHOUT_HEAD:
            stack.enter_context(patch.object(PlainLogits, "prompt", config["num_virtual_tokens"]))
        yield


class Prediction:
    """Predicts runs, as in the suite and as here."""

    def __init__(self, with_ours: bool) -> None:
        self._training = Training(batch_size=BATCH)
        self._suite = self._predictor(AsInSuite.sized(0))
        self._ours = self._predictor(TextGeneration.sized(0)) if with_ours else None

    def of(self, run: Run) -> Found:
        began = time.process_time()
        try:
            with as_in_suite(run):
                costs = self._suite.predict_parts([run.method], self._training)
        except AutopeftError as error:
            return Found(run, None, None, time.process_time() - began, str(error))
        seconds = time.process_time() - began
        return Found(run, costs, self._here(run), seconds)

    def _here(self, run: Run) -> Costs | None:
        try:
            return self._ours.predict_parts([run.method], self._training) if self._ours else None
        except AutopeftError:
            return None

    def _predictor(self, task: TextGeneration) -> Predictor:
        skeleton = load_skeleton(llama_3b(), torch.bfloat16, causal=True)
        return Predictor(skeleton, {}, task.on(skeleton), LENGTH)


def shown(found: Found) -> tuple[str, ...]:
    costs, run = found.costs, found.run
    if costs is None:
        return run.name, f"{run.trainable:,}", "-", "-", show_bytes(run.reserved), "-", "-", show_seconds(found.seconds)
    exact = "exact" if costs.trainable == run.trainable else f"{costs.trainable:,}"
    ours = show_bytes(found.ours.memory) if found.ours else "-"
    peaks = show_bytes(costs.memory), show_bytes(run.reserved), f"{found.off:+.1%}"
    return run.name, f"{run.trainable:,}", exact, *peaks, ours, show_seconds(found.seconds)


def summary(found: list[Found]) -> tuple[list[str], bool]:
    """Sentences about all runs, and whether all is as it must be."""
    seen = [each for each in found if each.costs is not None]
    exact = sum(each.costs.trainable == each.run.trainable for each in seen if each.costs)
    near = sum(abs(each.off) <= WITHIN for each in seen)
    predicted = [each.costs.memory for each in seen if each.costs]
    ranks = float(spearmanr([each.run.reserved for each in seen], predicted).statistic) if len(seen) > 1 else 1.0
    seconds = [each.seconds for each in found]
    lines = [
        f"trainable parameters exact in {exact} of {len(found)}",
        f"peak within {WITHIN:.0%} in {near} of {len(found)}; {mean(abs(each.off) for each in seen):.1%} off on "
        f"average, {mean(each.off for each in seen):+.1%} with its sign; Spearman {ranks:.3f}",
        f"processor seconds of a prediction: median {median(seconds):.1f}, slowest {max(seconds):.1f} "
        f"({max(found, key=lambda each: each.seconds).run.name})",
        *(f"cannot be attached: {each.run.name}: {each.refused}" for each in found if each.costs is None),
    ]
    good = exact == len(found) and len(found) - near <= MAY_BE_OFF and ranks >= RANKS
    return lines, good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="Beginnings of the names of runs, with commas.")
    parser.add_argument("--without-ours", action="store_true", help="Leave out what the methods need here.")
    args = parser.parse_args()
    wanted = tuple(args.only.split(","))
    runs = [run for run in runs_in(args.folder) if run.name.startswith(wanted)]
    prediction = Prediction(not args.without_ours)
    found = []
    for run in runs:
        found.append(prediction.of(run))
        print("  ".join(shown(found[-1])), file=sys.stderr, flush=True)
    table = Table("run", "trainable", "counted", "predicted", "measured", "off", "here", "seconds", box=None)
    for each in found:
        table.add_row(*shown(each))
    Console(width=160).print(table)
    lines, good = summary(found)
    print("\n".join(lines))
    sys.exit(not good)


if __name__ == "__main__":
    main()
