"""What orchestration costs a trial: ours, beside Ray Tune with a function that loads model and data in every trial.

    python benchmarks/overhead.py [--trials 12]

Both train the same LoRA on the packaged MiniLM and news headlines for one step, one trial at a time, and then look at
the validation split once. Training itself (the step and the look) is timed inside each trial and taken off; what is
left is overhead: starting and ending a trial, loading, attaching, predicting and measuring costs, saving weights, the
database. The first trial of each also starts Ray and its worker and is told apart. Each side runs three times, in turn.
"""

import argparse
import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
import ray
import torch
from ray import tune
from rich.console import Console
from rich.table import Table

import autopeft
from autopeft.data.demo import demo_data, demo_model
from autopeft.events import Event, TrialEnded

ROUNDS = 3
BATCH, LENGTH, RANKS = 8, 32, (1, 2, 4, 8, 16)
SPACE = f"""
summary: One step of LoRA.
methods: [lora]
training: {{batch_size: {BATCH}, epochs: 0.000001, head_start: random}}
"""


@dataclass(frozen=True)
class Run:
    """One run of all trials: seconds from the start to each trial's end, and in training."""

    ends: tuple[float, ...]
    training: tuple[float, ...]

    @property
    def first(self) -> float:
        """Overhead of the first trial, start-up included."""
        return self.ends[0] - self.training[0]

    @property
    def later(self) -> float:
        """Mean overhead of the trials after the first."""
        return (self.ends[-1] - self.ends[0] - sum(self.training[1:])) / (len(self.ends) - 1)


def ours(folder: Path, data: Path, trials: int) -> Run:
    """A search as users run it, with one worker."""
    space = folder / "space"
    space.mkdir(parents=True, exist_ok=True)
    (space / "space.yaml").write_text(SPACE, encoding="utf-8")
    ends: list[float] = []
    began: list[float] = []

    def hear(event: Event) -> None:
        if type(event).__name__ == "Doing":
            began.append(time.perf_counter())
        elif isinstance(event, TrialEnded):
            assert event.trial.status == "finished", event.trial.outcome
            ends.append(time.perf_counter() - began[-1])

    search = autopeft.search(
        model=str(demo_model()),
        data=str(data),
        space=str(space),
        trials=trials,
        max_length=LENGTH,
        workers=1,
        storage=f"sqlite:///{folder}/searches.db",
        folder=str(folder / f"runs-{time.time_ns()}"),
        on_event=hear,
    )
    return Run(tuple(ends), tuple(trial.curve[-1].seconds for trial in search.trials))


def function_trainable(config: dict[str, Any]) -> None:
    """A trial as Ray Tune's own examples write it."""
    from peft import LoraConfig, TaskType, get_peft_model
    from sklearn.model_selection import train_test_split
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(config["threads"])
    frame = pd.read_csv(config["data"])
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    classes = sorted(frame["section"].unique())
    labels = torch.tensor([classes.index(section) for section in frame["section"]])
    tokens = tokenizer(
        frame["headline"].tolist(), truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt"
    )
    train, validation = train_test_split(range(len(frame)), test_size=config["validation"], stratify=labels)
    base = AutoModelForSequenceClassification.from_pretrained(config["model"], num_labels=len(classes))
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=config["rank"], target_modules=["query", "value"])
    model = get_peft_model(base, lora)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    began = time.perf_counter()
    rows = train[:BATCH]
    model.train()
    model(**{name: tensor[rows] for name, tensor in tokens.items()}, labels=labels[rows]).loss.backward()
    optimizer.step()
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(validation), 64):
            rows = validation[start : start + 64]
            logits = model(**{name: tensor[rows] for name, tensor in tokens.items()}).logits
            right += int((logits.argmax(-1) == labels[rows]).sum())
    seconds = time.perf_counter() - began
    tune.report({"accuracy": right / len(validation), "seconds": seconds})


def theirs(folder: Path, data: Path, trials: int, validation: int) -> Run:
    """Ray Tune as users run it, one trial at a time."""
    began = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    threads = int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
    ends: list[float] = []

    class Noting(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter() - began)

    config = {"data": str(data), "model": str(demo_model()), "threads": threads, "validation": validation}
    results = tune.Tuner(
        tune.with_resources(function_trainable, {"cpu": threads}),
        param_space={**config, "rank": tune.choice(RANKS)},
        tune_config=tune.TuneConfig(num_samples=trials),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[Noting()]),
    ).fit()
    ray.shutdown()
    assert not results.errors, results.errors
    seconds = [(results[at].metrics or {})["seconds"] for at in range(len(results))]
    return Run(tuple(ends), tuple(seconds))


def main() -> None:
    """Runs both sides in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12, help="trials of each run")
    trials = parser.parse_args().trials
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = demo_data(folder)
        mine, other = [], []
        for _ in range(ROUNDS):
            mine.append(ours(folder / "ours", data, trials))
            validation = 210
            other.append(theirs(folder / "theirs", data, trials, validation))
    title = f"Overhead of a trial beyond its training, {trials} one-step trials, median of {ROUNDS} runs (seconds)"
    table = Table(title=title)
    for heading in ("", "training itself", "first trial", "later trials", "later: min … max"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, runs in (("(a) autopeft", mine), ("(b) Ray Tune, function trainable", other)):
        later = [run.later for run in runs]
        table.add_row(
            name,
            f"{median(mean(run.training) for run in runs):.2f}",
            f"{median(run.first for run in runs):.2f}",
            f"{median(later):.2f}",
            f"{min(later):.2f} … {max(later):.2f}",
        )
    console = Console(width=120)
    console.print(table)
    whole = [median((run.ends[-1] - sum(run.training)) / trials for run in runs) for runs in (mine, other)]
    later = [median(run.later for run in runs) for runs in (mine, other)]
    console.print(f"(a) / (b), later trials:                       {later[0] / later[1]:.3f}")
    console.print(f"(a) / (b), all trials and the start-up of Ray: {whole[0] / whole[1]:.3f}")


if __name__ == "__main__":
    main()
