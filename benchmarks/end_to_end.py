"""What a search finds in how much time: ours, beside Ray Tune with Optuna, transformers' Trainer and peft.

    python benchmarks/end_to_end.py [--minutes 10] [--seeds 3] [--plot end_to_end.html]

Both get the same backbone (the packaged MiniLM), the same split of the same data (news headlines by section), the same
methods, the same processors and as much time, in turn. Ours is `autopeft.search` as it is. The other is what a user
writes from the documentation: a function trainable that loads model and data and fine-tunes by Trainer, as Optuna's
TPE proposes for two objectives, accuracy and trainable parameters; each epoch's evaluation counts as a model that one
could have. What is compared is hypervolume over time: the best accuracy beyond the majority class that is to be had
within a number of trainable parameters, averaged over all such numbers from 100 to the whole model, on a logarithmic
scale. Heads, which both train, are not counted. Clocks begin before Ray starts.
"""

import argparse
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from over_time import MOMENTS, compare, tuned
from ray import tune
from rich.console import Console
from sklearn.model_selection import train_test_split

import autopeft
from autopeft.data.demo import demo_data, demo_model
from autopeft.events import Event, TrialEnded
from autopeft.trial import Status

METHODS = ("lora", "ia3", "prompt_tuning", "prefix_tuning", "vera", "p_tuning")
LEAST, MOST = 100, 22_713_216
"""Trainable parameters: of the smallest candidates, about, and of the whole backbone."""
VALIDATION = 400
WORKERS = 2


@dataclass(frozen=True)
class Had:
    """A model that could be had."""

    seconds: float
    """Since the start."""
    accuracy: float
    trainable: int


@dataclass(frozen=True)
class Data:
    """One split for both sides."""

    folder: Path
    majority: float


def split(folder: Path, seed: int) -> Data:
    """`train.csv` and `validation.csv`."""
    frame = pd.read_csv(demo_data(folder)).rename(columns={"headline": "text", "section": "label"})
    train, validation = train_test_split(frame, test_size=VALIDATION, stratify=frame["label"], random_state=seed)
    place = folder / f"split-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    train.to_csv(place / "train.csv", index=False)
    validation.to_csv(place / "validation.csv", index=False)
    return Data(place, float(validation["label"].value_counts(normalize=True).max()))


def ours(folder: Path, data: Data, seconds: float, seed: int) -> list[Had]:
    """A search as users run it."""
    had: list[Had] = []
    began = time.perf_counter()

    def hear(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial.status is Status.FINISHED:
            trial = event.trial
            had.append(Had(time.perf_counter() - began, trial.value("score"), trial.predicted.trainable))

    autopeft.search(
        model=str(demo_model()),
        data=str(data.folder),
        methods=METHODS,
        objectives=("accuracy", "trainable"),
        trials=10_000,
        time=seconds,
        workers=WORKERS,
        seed=seed,
        storage=f"sqlite:///{folder}/searches.db",
        folder=str(folder / f"runs-{seed}"),
        on_event=hear,
    )
    return had


def fine_tune(config: dict[str, Any]) -> None:
    """A trial as the documentations of Ray Tune, transformers and peft write it."""
    from datasets import Dataset
    from peft import (
        IA3Config,
        LoraConfig,
        PrefixTuningConfig,
        PromptEncoderConfig,
        PromptTuningConfig,
        TaskType,
        VeraConfig,
        get_peft_model,
    )
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    frames = [pd.read_csv(Path(config["data"]) / f"{name}.csv") for name in ("train", "validation")]
    classes = sorted(frames[0]["label"].unique())
    train, validation = (
        Dataset.from_dict(
            {"text": frame["text"].tolist(), "label": [classes.index(label) for label in frame["label"]]}
        ).map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True)
        for frame in frames
    )
    kind = TaskType.SEQ_CLS
    configs = {
        "lora": lambda: LoraConfig(task_type=kind, r=config["rank"], lora_alpha=2 * config["rank"]),
        "ia3": lambda: IA3Config(task_type=kind),
        "prompt_tuning": lambda: PromptTuningConfig(task_type=kind, num_virtual_tokens=config["length"]),
        "prefix_tuning": lambda: PrefixTuningConfig(task_type=kind, num_virtual_tokens=config["length"]),
        "vera": lambda: VeraConfig(task_type=kind, r=config["vera_rank"], target_modules=["query", "value"]),
        "p_tuning": lambda: PromptEncoderConfig(
            task_type=kind, num_virtual_tokens=config["length"], encoder_hidden_size=128
        ),
    }
    base = AutoModelForSequenceClassification.from_pretrained(config["model"], num_labels=len(classes))
    model = get_peft_model(base, configs[config["method"]]())  # type: ignore[no-untyped-call]
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    trainable = sum(each.numel() for name, each in trained.items() if "classifier" not in name)

    class Reporting(TrainerCallback):
        # Workers know of this module only what functions name, and not what a class does.
        def on_evaluate(self, *_: object, metrics: dict[str, float], **__: object) -> None:  # type: ignore[override]
            tune.report({"accuracy": metrics["eval_accuracy"], "trainable": trainable, "at": time.time()})

    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir="trainer",
            per_device_train_batch_size=config["batch_size"],
            per_device_eval_batch_size=64,
            num_train_epochs=config["epochs"],
            learning_rate=config["learning_rate"],
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=config["seed"],
        ),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda seen: {"accuracy": float((np.argmax(seen.predictions, -1) == seen.label_ids).mean())},
        callbacks=[Reporting()],
    ).train()


def theirs(folder: Path, data: Data, seconds: float, seed: int) -> list[Had]:
    """Ray Tune as users run it."""
    space = {
        "model": str(demo_model()),
        "data": str(data.folder),
        "seed": seed,
        "method": tune.choice(list(METHODS)),
        "rank": tune.choice([1, 2, 4, 8, 16, 32]),
        "vera_rank": tune.choice([64, 256]),
        "length": tune.choice([5, 10, 20, 50]),
        "learning_rate": tune.loguniform(1e-5, 3e-2),
        "batch_size": tune.choice([16, 32, 64]),
        "epochs": tune.choice([1, 2, 3]),
    }
    objectives = {"accuracy": "max", "trainable": "min"}
    had = tuned(fine_tune, space, objectives, seconds, WORKERS, folder / f"theirs-{seed}")
    return [Had(each["seconds"], each["accuracy"], each["trainable"]) for each in had]


def volume(had: list[Had], majority: float) -> float:
    """The hypervolume, between 0 and 1."""
    edges = np.geomspace(LEAST, MOST, 2001)
    best = np.zeros(len(edges))
    for each in had:
        best[edges >= each.trainable] = np.maximum(best[edges >= each.trainable], each.accuracy - majority)
    return float(best.mean() / (1 - majority))


def growing(had: list[Had], majority: float, times: np.ndarray) -> np.ndarray:
    """The hypervolume at each of these seconds."""
    return np.array([volume([each for each in had if each.seconds <= at], majority) for at in times])


def main() -> None:
    """Runs both sides in turn for every seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="an HTML file for the curves")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore", FutureWarning)
    seconds = 60 * options.minutes
    times = np.linspace(0, seconds, MOMENTS)
    curves: dict[str, list[np.ndarray]] = {"autopeft": [], "Ray Tune, Optuna, Trainer, peft": []}
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as place:
        for seed in range(options.seeds):
            data = split(Path(place), seed)
            for name, side in zip(curves, (ours, theirs), strict=True):
                had = side(Path(place), data, seconds, seed)
                curves[name].append(growing(had, data.majority, times))
                console.print(f"seed {seed}, {name}: {len(had)} models, hypervolume {curves[name][-1][-1]:.3f}")
    compare(curves, options.minutes, console, options.plot)


if __name__ == "__main__":
    main()
