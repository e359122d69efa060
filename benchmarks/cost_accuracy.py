"""How well costs are predicted: beside the meter's reading of a real step, and beside what is not our own meter.

    python benchmarks/cost_accuracy.py [--parts meter,tasks,time,others] [--models BERT,T5] [--tasks text-regression]

Models have random weights (cost does not depend on values) and 12 layers, so that predictions come from
shallow models of their layers. The first table tells whether the simulated step is the real one; both are read by the
same meter, so it cannot tell whether the meter is right. The same is asked of every task, with looks at data and
evaluation, on models of its kind: small ones with random weights, or those in folders (--texts, --images); it ends in
an error where a peak is further off than 3 %. Then it is told how long predictions take. The last table
trusts no meter. In a fresh process for each case, it compares the predicted peak, without the weights, with two others:
what torch's profiler saw allocated at its worst moment, and the growth of resident memory, once with an allocator that
gives freed memory back at once, so that what is resident is what is alive, and once with glibc's defaults, which keep
much of it: what a CPU really needs. Linux with glibc only.
"""

import argparse
import ctypes
import gc
import multiprocessing
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    Dinov2Config,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    T5Config,
)
from transformers.utils import logging

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import Skeleton, load_backbone, load_skeleton, without_pooler
from autopeft.costs.api import measure, predict
from autopeft.costs.calibration import costs_of_training
from autopeft.costs.measure import measure_batch, measure_calibrations, measure_evaluation
from autopeft.costs.meter import WEIGHTS
from autopeft.costs.predict import Predictor
from autopeft.data.demo import demo_model
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.sizes import show_bytes
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.base import Task
from autopeft.tasks.named import task_named, tasks
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from autopeft.training.model import TaskModel
from autopeft.trial import Costs

CARDS = load_cards()
TASK = TextClassification.sized(2)
CPU = torch.device("cpu")
LAYERS, VOCABULARY = 12, 4000
SMALL, LARGE = 128, 256
"""Widths: of the models that are metered, and of those that are compared with the process."""


def shape(width: int, layers: int = LAYERS, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    """How most configurations call it."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }


def gpt2(width: int) -> GPT2Config:
    """Named as that family does."""
    heads = width // 64
    return GPT2Config(vocab_size=VOCABULARY, n_embd=width, n_layer=LAYERS, n_head=heads, bos_token_id=0, eos_token_id=0)


def t5(width: int) -> T5Config:
    """Named as that family does."""
    return T5Config(
        vocab_size=VOCABULARY, d_model=width, d_kv=64, num_heads=width // 64, num_layers=LAYERS, d_ff=4 * width
    )


MODELS: Mapping[str, Callable[[int], PretrainedConfig]] = {
    "BERT": lambda width: BertConfig(**shape(width)),
    "RoBERTa": lambda width: RobertaConfig(**shape(width), max_position_embeddings=514),
    "Llama": lambda width: LlamaConfig(**shape(width), num_key_value_heads=width // 128),
    "GPT-2": gpt2,
    "T5": t5,
}
"""Width -> configuration."""
METHODS: Mapping[str, tuple[Part, ...]] = {
    "lora": (Part("lora"),),
    "lora r32 everywhere": (Part("lora", {"rank": 32, "sites": ("q", "k", "v", "o", "ffn.up", "ffn.down")}),),
    "lora in the last half": (Part("lora", {"layers": "last 50%"}),),
    "vera": (Part("vera"),),
    "ia3": (Part("ia3"),),
    "prompt_tuning": (Part("prompt_tuning"),),
    "prefix_tuning": (Part("prefix_tuning"),),
    "adapter houlsby": (Part("adapter", {"placement": "houlsby"}),),
    "compacter": (Part("compacter"),),
    "adamix": (Part("adamix"),),
    "unipelt": (Part("unipelt"),),
    "bitfit": (Part("bitfit"),),
    "top_layers": (Part("top_layers"),),
    "fishmask": (Part("fishmask"),),
    "far": (Part("far"),),
    "ladder": (Part("ladder", {"reduction": 4}),),
    "sparse_adapter": (Part("sparse_adapter"),),
    "full": (Part("full"),),
    "lora_parallel": (Part("lora"), Part("adapter", {"placement": "parallel"})),
    "mam": (
        Part("prefix_tuning", {"length": 16, "hidden": 512}),
        Part("adapter", {"placement": "parallel", "bottleneck": 16, "activation": "relu", "scale": 2.0}),
    ),
}
MODES = ("plain", "checkpointing", "bf16")
BATCHES = ((4, 32), (8, 64))
LARGEST = (64, 128)
WITHIN = 0.03
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
"""Makes glibc map every larger block by itself, and unmap it when it is freed."""


@dataclass(frozen=True)
class Case:
    model: str
    method: str
    mode: str
    rows: int
    length: int

    @property
    def candidate(self) -> Candidate:
        training = Training(batch_size=self.rows, gradient_checkpointing=self.mode == "checkpointing")
        return Candidate(self.method, METHODS[self.method], training)


def predicted(case: Case, skeleton: Skeleton) -> Costs:
    with patch.object(precision, "has_bf16", lambda _: case.mode == "bf16"):
        return Predictor(skeleton, CARDS, TASK, case.length, CPU).predict(case.candidate)


def metered(case: Case, model: PreTrainedModel, rows: int, length: int) -> Costs:
    """One real step, a batch of each calibration before it and one of the evaluation after it, on texts of which every
    second one is shorter.
    """
    sites = find_sites(model)

    def texts(rows: int) -> Mapping[str, torch.Tensor]:
        ids = torch.randint(2, VOCABULARY, (rows, length))
        mask = torch.ones_like(ids)
        mask[1::2, -length // 4 :] = 0
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(rows) % 2}

    bf16 = patch.object(precision, "has_bf16", lambda _: case.mode == "bf16")
    with bf16, attach(model, configured_parts(case.candidate.parts, CARDS), sites) as attached:
        whole = TaskModel(model, TASK.new_head(sites.width, case.candidate.training), attached, TASK.inputs)
        step = measure_batch(whole, texts(rows), case.candidate.training, CPU)
        calibrations, evaluation = measure_calibrations(whole, texts, CPU), measure_evaluation(whole, texts(rows), CPU)
        return costs_of_training(step, calibrations, evaluation)


def real(name: str, width: int) -> tuple[Skeleton, PreTrainedModel]:
    """A skeleton and the same model with weights."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    config = MODELS[name](width)
    skeleton = load_skeleton(config)
    model: Any = type(skeleton.model)._from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    model.eval()
    return skeleton, model


@dataclass(frozen=True)
class Compared:
    """A case as predicted and as metered."""

    case: Case
    predicted: Costs
    metered: Costs

    @property
    def error(self) -> float:
        """Of the peak, as a fraction."""
        return self.predicted.memory / self.metered.memory - 1


def against_the_meter(console: Console, options: Namespace) -> None:
    """Prints every case, and what is left of it all."""
    models = options.models.split(",")
    compared = [each for name in models for each in _compared(name)]
    table = Table("model", "method", "mode", "batch", "predicted", "metered", "error", "trainable", "flops", "set-up")
    for each in compared:
        case, ours, seen = each.case, each.predicted, each.metered
        counts = [
            "same" if mine == theirs else f"{mine} / {theirs}"
            for mine, theirs in (
                (ours.trainable, seen.trainable),
                (ours.flops, seen.flops),
                (ours.set_up_flops, seen.set_up_flops),
            )
        ]
        sizes = show_bytes(ours.memory), show_bytes(seen.memory), f"{each.error:+.3%}"
        table.add_row(case.model, case.method, case.mode, f"{case.rows} x {case.length}", *sizes, *counts)
    console.print(table)
    summary = Table("model", *(f"{mode}: worst of cases" for mode in MODES), title="Error of the predicted peak")
    for name in models:
        errors = {
            mode: [abs(each.error) for each in compared if (each.case.model, each.case.mode) == (name, mode)]
            for mode in MODES
        }
        summary.add_row(name, *(f"{max(own):.3%} of {len(own)}" for own in errors.values()))
    console.print(summary)
    within = sum(abs(each.error) <= WITHIN for each in compared) / len(compared)
    exact = sum(each.predicted.trainable == each.metered.trainable for each in compared)
    worst = max(abs(each.error) for each in compared)
    console.print(f"{within:.1%} of {len(compared)} peaks are within {WITHIN:.0%} of the meter; worst {worst:.3%}.")
    console.print(f"Trainable parameters are exact in {exact} of {len(compared)} cases.")


def _compared(name: str) -> Iterator[Compared]:
    skeleton, model = real(name, SMALL)
    for method, mode, (rows, length) in product(METHODS, MODES, BATCHES):
        case = Case(name, method, mode, rows, length)
        try:
            costs = predicted(case, skeleton)
        except CannotAttach:
            continue
        yield Compared(case, costs, metered(case, model, rows, length))


OF_TASKS = (
    *("lora", "adalora", "ia3", "prompt_tuning", "prefix_tuning", "adapter", "compacter", "adamix", "unipelt"),
    *("bitfit", "top_layers", "fishmask", "far", "ladder", "full"),
)
"""What is asked of every task; a model of images takes no prompts."""


def of_task(task: type[Task], folders: Mapping[str, str]) -> tuple[str | PretrainedConfig, PreTrainedModel]:
    """What a prediction is made from, and the same with weights."""
    if folders.get(task.noun):
        return folders[task.noun], load_backbone(folders[task.noun]).model
    image = Dinov2Config(hidden_size=64, num_hidden_layers=6, num_attention_heads=2, image_size=112, patch_size=14)
    config = image if task.reads == "pixel_values" else BertConfig(**shape(64, 6) | {"num_attention_heads": 2})
    return config, without_pooler(AutoModel.from_config(config)).eval()  # type: ignore[no-untyped-call]


def against_the_meter_by_task(console: Console, options: Namespace) -> None:
    """Prints every method on every task, with and without checkpointing. Raises SystemExit where a peak is far off."""
    table, errors = Table("task", "method", "mode", "predicted", "metered", "error", "trainable"), []
    for name in options.tasks.split(","):
        config, model = of_task(task_named(name), {"text": options.texts, "image": options.images})
        for method, checkpointed in product(OF_TASKS, (False, True)):
            how: Any = {"task": name, "labels": 5, "batch_size": 8, "length": 48}
            how["gradient_checkpointing"] = checkpointed
            try:
                ours, seen = predict(config, method, **how), measure(model, method, **how)
            except CannotAttach:
                continue
            errors.append(ours.memory / seen.memory - 1)
            same = "same" if ours.trainable == seen.trainable else f"{ours.trainable} / {seen.trainable}"
            sizes = show_bytes(ours.memory), show_bytes(seen.memory), f"{errors[-1]:+.3%}"
            table.add_row(name, method, MODES[checkpointed], *sizes, same)
    console.print(table)
    far, worst = sum(abs(each) > WITHIN for each in errors), max(map(abs, errors))
    console.print(f"{len(errors) - far} of {len(errors)} peaks are within {WITHIN:.0%}; worst {worst:.3%}.")
    if far:
        raise SystemExit(1)


def how_long(console: Console, _: Namespace) -> None:
    """Prints how long predictions take, of candidates that are new, on a backbone that a search has met before."""
    deep = shape(1024, layers=24, vocabulary=30522)
    models = {
        "MiniLM": AutoConfig.from_pretrained(str(demo_model())),
        "BERT of 24 layers": BertConfig(**deep),
        "Llama of 24 layers": LlamaConfig(**deep, num_key_value_heads=8),
    }
    for name, config in models.items():
        predictor, seconds = Predictor(load_skeleton(config), CARDS, TASK, 128, CPU), []
        predictor.predict(Candidate("krona_b", (Part("krona_b"),), Training(batch_size=16)))
        for method in METHODS:
            began = time.perf_counter()
            try:
                predictor.predict(Case(name, method, "plain", 16, 128).candidate)
            except CannotAttach:
                continue
            seconds.append(time.perf_counter() - began)
        typical, most = median(seconds), max(seconds)
        console.print(f"{name}: {typical:.2f} s a prediction (median of {len(seconds)}), {most:.2f} at most.")


def grown(case: Case, profiled: bool) -> tuple[int, int]:
    """In a fresh process: the predicted peak without the weights, and by how much memory grew at its own peak.

    As torch's profiler saw it, or as the kernel says of what is resident.
    """
    torch.set_num_threads(1)
    skeleton, model = real(case.model, LARGE)
    costs = predicted(case, skeleton)
    expected = costs.memory - costs.memory_by_part[WEIGHTS]
    metered(case, model, 1, 8)
    if profiled:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            metered(case, model, case.rows, case.length)
        return expected, most_allocated(profiler)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status("VmRSS")
    metered(case, model, case.rows, case.length)
    return expected, status("VmHWM") - before


def most_allocated(profiler: Any) -> int:
    """The largest sum of all allocations so far, less what was freed."""
    events = [each for each in profiler.profiler.kineto_results.events() if each.name() == "[memory]"]
    events.sort(key=lambda each: each.start_ns())
    return int(max(accumulate(each.nbytes() for each in events)))


def status(field: str) -> int:
    """A size of this process in bytes, as the kernel says."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def in_fresh_process(case: Case, environment: Mapping[str, str], profiled: bool = False) -> tuple[int, int]:
    spawn = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, environment), ProcessPoolExecutor(1, mp_context=spawn) as fresh:
        return fresh.submit(grown, case, profiled).result()


def against_others(console: Console, options: Namespace) -> None:
    read = ("profiler", "resident, gives back", "resident, glibc")
    table = Table("model", "method", "mode", "predicted growth", *(name for each in read for name in (each, "error")))
    rows, length = LARGEST
    for name, (method, mode) in product(
        options.models.split(","), (("lora", "plain"), ("adapter houlsby", "checkpointing"))
    ):
        case = Case(name, method, mode, rows, length)
        shown: list[str] = []
        for environment, profiled in (({}, True), (GIVES_BACK, False), ({}, False)):
            expected, seen = in_fresh_process(case, environment, profiled)
            shown += [show_bytes(seen), f"{expected / seen - 1:+.1%}"]
        console.print(f"{name}, {method}, {mode}: predicted {show_bytes(expected)}; {', '.join(shown)}")
        table.add_row(name, method, mode, show_bytes(expected), *shown)
    console.print(table)
    console.print(f"Batches are {rows} x {length}.")


def main() -> None:
    """Prints what was asked for."""
    parts: Mapping[str, Callable[[Console, Namespace], None]] = {
        "meter": against_the_meter,
        "tasks": against_the_meter_by_task,
        "time": how_long,
        "others": against_others,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="names with commas")
    parser.add_argument("--parts", default=",".join(parts), help="names with commas")
    parser.add_argument("--tasks", default=",".join(tasks()), help="names with commas")
    parser.add_argument("--texts", help="folder of a model of texts")
    parser.add_argument("--images", help="folder of a model of images")
    options = parser.parse_args()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for part in options.parts.split(","):
        parts[part](Console(width=160), options)


if __name__ == "__main__":
    main()
