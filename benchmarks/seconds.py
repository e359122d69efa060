"""How well seconds of trainings are predicted: before anything is measured, and after three trials of other methods.

    python benchmarks/seconds.py [--rounds 20] [--each]
    python benchmarks/seconds.py --record sst2 --data ../shared/data
    python benchmarks/seconds.py --record trials --data ../shared/data
    python benchmarks/seconds.py --record hf-peft-suite --data ../shared/data

Four sets of trainings, each in a file of `recorded/seconds/`: `sst2` and `sick-nli` are the tables of `record.py` (11
methods, MiniLM, whole trials on one thread but for their end, of some other machine: what is before any measurement
goes by this one's rates), `trials` are real ones of a search's own worker on 320 texts of sst2 (methods at their
defaults and at random settings, one pass), and `hf-peft-suite` are the published runs of Llama-3.2-3B (steps alone, on
an L40S, whose rates are those of its data sheet). Recording predicts the work of all, and trains the `trials`; seconds
are the processor's. In each round three trials of three methods are learned from, and those of all other methods are
predicted; of each method the median counts. `--each` shows the methods.
"""

import argparse
import csv
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from record import part_of
from recording import recording_space, settings_of
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from transformers import LlamaConfig

from autopeft.backbone.load import load_skeleton
from autopeft.costs.load import Load
from autopeft.costs.predict import Predictor
from autopeft.costs.rates import Rates, rates_of
from autopeft.costs.seconds import Seconds
from autopeft.costs.work import FROZEN
from autopeft.data.demo import demo_model
from autopeft.data.store import open_split
from autopeft.errors import AutopeftError
from autopeft.methods.registry import Configured
from autopeft.plan import Plan
from autopeft.searching.here import train_here
from autopeft.searching.preparation import prepare
from autopeft.searching.preparing.dataset import prepare_dataset
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.parameters import Recalled
from autopeft.tasks.named import task_named
from autopeft.trial import Costs, Outcome, Rung, Status, Trial

RECORDED = Path(__file__).parent / "recorded"
TABLES = ("sst2", "sick-nli")
SETS = (*TABLES, "trials", "hf-peft-suite")
FROM_TABLE = 60
"""Rows of a table of `record.py` whose work is predicted."""
METHODS = (
    *("adalora", "adapter", "bitfit", "compacter", "fishmask", "ia3", "krona", "ladder", "lora"),
    *("norm_tuning", "prefix_tuning", "prompt_tuning", "said", "top_layers", "unipelt", "vera"),
)
EACH = 2
"""Trials of a method: at its defaults, and at settings drawn by chance."""
L40S = Rates(flop=1 / 90e12, byte=1 / 600e9, operation=8e-6)
"""Half of what the data sheet promises for bf16, two thirds of its bandwidth, and what PyTorch takes to launch."""
SUITE_LENGTH = 256
"""Tokens of a row of the suite's training, about; at most 768."""
Lengths = tuple[list[int], list[int], int]
"""Entries of every training row, of every validation row, and of the longest batch."""
LLAMA: Mapping[str, Any] = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
}


def main() -> None:
    """Records a set, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", choices=SETS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("recording"), help="folder for prepared data")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--each", action="store_true", help="show every method")
    options = parser.parse_args()
    if options.record is None:
        show(options.rounds, options.each)
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    makers = {"trials": record_trials, "hf-peft-suite": record_suite}
    makers.get(options.record, record_table)(options.record, options.data, options.folder)


def record_table(name: str, data: Path, folder: Path) -> None:
    """The work of the first candidates of a table of `record.py`; what another table tells of the same settings is
    taken from there.
    """
    space = recording_space()
    cut = part_of(data / name, folder / name, {"train": 960, "validation": 500, "test": 100})
    plan = Plan(str(demo_model()), str(cut), max_length=32)
    dataset = prepare_dataset(plan, folder.absolute(), "seconds", print, None)
    skeleton = load_skeleton(str(demo_model()))
    predictor = Predictor(skeleton, space.cards, dataset.data.task, dataset.length, longest=dataset.longest)
    known = {settings_of(each.candidate): each.predicted for other in _recorded(TABLES) for each in read(other)[0]}
    with (RECORDED / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["status"] == Status.FINISHED.value][:FROM_TABLE]
    before = float(np.median([_before_steps(json.loads(row["curve"])) for row in rows]))
    trials = []
    for number, row in enumerate(rows, 1):
        candidate = space.draw(Recalled(json.loads(row["params"])))
        costs = known.get(settings_of(candidate)) or _without_store(predictor.predict(candidate))
        step, of, _, seconds = json.loads(row["curve"])[-1]
        curve = (Rung(step, of, 0.0, 0.0, 0.0, seconds - before),)
        outcome = Outcome(Status.FINISHED, seconds=seconds)
        trials.append(Trial(number, candidate, costs, {}, 0, Status.FINISHED, curve, outcome))
        print(number, candidate.name, f"{seconds:.1f} s", flush=True)
    keep(name, trials, _lengths(dataset.encoded), rates_of(torch.device("cpu"), 1))


def _without_store(costs: Costs) -> Costs:
    """The tables were recorded when no states of frozen layers were kept."""
    return replace(costs, work={name: each for name, each in costs.work.items() if not name.startswith(FROZEN)})


def _before_steps(curve: Sequence[Sequence[float]]) -> float:
    """Of three rungs' seconds, set-up included: those of the set-up."""
    (one, _, _, first), (two, _, _, second), (three, _, _, third) = curve
    step = ((third - second) - (second - first)) / ((three - two) - (two - one))
    evaluation = (second - first) - step * (two - one)
    return max(first - step * one - evaluation, 0.05)


def record_trials(name: str, data: Path, folder: Path) -> None:
    """Trains with a search's own worker, by the processor's clock."""
    counts = {"train": 320, "validation": 160, "test": 100}
    cut = part_of(data / "sst2", folder / name, counts)
    plan = Plan(str(demo_model()), str(cut), space="default", methods=METHODS, max_length=32)
    prepared = prepare(plan, folder.absolute(), "seconds", print)
    lengths = _lengths(prepared.job.tokenized)
    rng = np.random.default_rng(0)
    wanted = []
    for method in METHODS:
        wanted.append(prepared.space.defaults(method))
        only = prepared.space.only((method,))
        wanted += [only.draw(Drawn(rng)) for _ in range(EACH - 1)]
    rng.shuffle(wanted)
    shortened = [replace(each, training=replace(each.training, epochs=1.0, least_steps=0)) for each in wanted]
    with patch("time.perf_counter", time.process_time):
        rates = rates_of(torch.device("cpu"), 1)
        ledger = _Ledger(prepared.predict, shortened, lambda trials: keep(name, trials, lengths, rates))
        train_here(ledger, prepared.job)


class _Ledger:
    """Gives candidates and keeps what becomes of them."""

    def __init__(self, predict: Any, wanted: Sequence[Candidate], keep_all: Any) -> None:
        self._predict, self._wanted, self._keep_all = predict, [*wanted], keep_all
        self._under_way: dict[int, Trial] = {}
        self._done: list[Trial] = []

    def next(self) -> Trial | None:
        while self._wanted:
            candidate, number = self._wanted.pop(), len(self._wanted)
            try:
                costs = self._predict(candidate)
            except AutopeftError as error:
                print(candidate.name, error, flush=True)
                continue
            self._under_way[number] = Trial(number, candidate, costs, {}, seed=number)
            return self._under_way[number]
        return None

    def rung(self, number: int, rung: Rung) -> bool:
        trial = self._under_way[number]
        self._under_way[number] = replace(trial, curve=(*trial.curve, rung))
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        trial = replace(self._under_way.pop(number), status=outcome.status, outcome=outcome)
        print(trial.candidate.name, outcome.status.value, f"{outcome.seconds:.1f} s", outcome.reason, flush=True)
        if trial.status is Status.FINISHED:
            self._done.append(trial)
            self._keep_all(self._done)


def record_suite(name: str, data: Path, _: Path) -> None:
    """The work of the published runs."""
    config = LlamaConfig(**LLAMA, num_key_value_heads=8, vocab_size=128256, max_position_embeddings=1024)
    skeleton = load_skeleton(config, torch.bfloat16)
    task = task_named("text-classification").sized(2).on(skeleton)
    predictor = Predictor(skeleton, {}, task, SUITE_LENGTH)
    training = Training(batch_size=4, epochs=1.0)
    lines = (data / name / "metamath.jsonl").read_text(encoding="utf-8").splitlines()
    lengths = [SUITE_LENGTH] * 20_000, [SUITE_LENGTH], SUITE_LENGTH
    trials: list[Trial] = []
    for number, run in enumerate(map(json.loads, lines), 1):
        fields = {
            key: value for key, value in (run["peft_config"] or {}).items() if key not in ("peft_type", "task_type")
        }
        kind = (run["peft_config"] or {}).get("peft_type", "full")
        try:
            costs = predictor.predict_parts([_configured(kind, fields)], training)
        except Exception as error:  # Of whatever library: it is told, and the run is left out.
            print(run["experiment"], " ".join(str(error).split())[:150], flush=True)
            continue
        seconds = sum(each[3] for each in run["curve"])
        rungs = (Rung(run["steps"], run["steps"], 0.0, 0.0, 0.0, seconds),)
        outcome = Outcome(Status.FINISHED, seconds=seconds + 1.0)
        candidate = Candidate(kind.lower(), (Part(kind.lower()),), training)
        trials.append(Trial(number, candidate, costs, {}, 0, Status.FINISHED, rungs, outcome))
        print(run["experiment"], f"{seconds:.0f} s, {costs.flops:.3g} FLOPs", flush=True)
        keep(name, trials, lengths, L40S)


def _configured(kind: str, fields: Mapping[str, Any]) -> Configured:
    import peft

    if kind == "full":
        return Configured("full", "autopeft.methods.full.Full", {}, {})
    found = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType[kind]]
    return Configured(kind.lower(), f"peft.{found.__name__}", dict(fields), {})


def _lengths(encoded: Path) -> Lengths:
    train, validation = (open_split(encoded, split) for split in ("train", "validation"))
    return train.lengths.tolist(), validation.lengths.tolist(), train.longest


def _recorded(names: Sequence[str]) -> list[str]:
    return [name for name in names if (RECORDED / "seconds" / f"{name}.json").exists()]


def keep(name: str, trials: Sequence[Trial], lengths: Lengths, rates: Rates) -> None:
    """Writes a set."""
    plain = {
        "rates": asdict(rates),
        "lengths": lengths,
        "trials": [
            {
                "candidate": each.candidate.to_dict(),
                "costs": {name: getattr(each.predicted, name) for name in _COSTS},
                "curve": [[rung.step, rung.steps, rung.seconds] for rung in each.curve],
                "seconds": each.outcome.seconds,
                "kept": each.outcome.facts.get("kept_states", 0),
            }
            for each in trials
            if each.outcome is not None
        ],
    }
    folder = RECORDED / "seconds"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(plain, separators=(",", ":")) + "\n", encoding="utf-8")


_COSTS = ("trainable", "memory", "stored", "flops", "inference_flops", "work")


def read(name: str) -> tuple[list[Trial], Load, Rates]:
    """A set that `keep` wrote."""
    plain = json.loads((RECORDED / "seconds" / f"{name}.json").read_text(encoding="utf-8"))
    trials = []
    for number, each in enumerate(plain["trials"], 1):
        curve = tuple(Rung(step, steps, 0.0, 0.0, 0.0, seconds) for step, steps, seconds in each["curve"])
        outcome = Outcome(Status.FINISHED, seconds=each["seconds"], facts={"kept_states": each["kept"]})
        candidate = Candidate.from_dict(each["candidate"])
        trials.append(Trial(number, candidate, Costs(**each["costs"]), {}, 0, Status.FINISHED, curve, outcome))
    train, validation, most = plain["lengths"]
    return trials, Load(np.array(train), np.array(validation), most), Rates(**plain["rates"])


def show(rounds: int, each: bool) -> None:
    """The tables."""
    console = Console(width=120)
    summary = Table(title=f"Median error of predicted seconds, {rounds} rounds")
    for heading in (
        "trainings",
        "trials",
        "methods",
        "before any",
        "after three of others",
        "90 %",
        "in 1 error",
        "Spearman",
    ):
        summary.add_column(heading, justify="left" if heading == "trainings" else "right")
    for name in _recorded(SETS):
        trials, load, rates = read(name)
        before = _errors(trials, Seconds(load, lambda rates=rates: rates))  # type: ignore[misc]
        after: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
        ranks = []
        for number in range(rounds):
            learned, chosen = _learned(trials, load, rates, np.random.default_rng(number))
            others = [trial for trial in trials if not set(_methods(trial)) & chosen]
            found = _errors(others, learned)
            for at, off in found.items():
                after[at].append(off)
            ranks.append(spearmanr([off[1] for off in found.values()], [_measured(trial) for trial in others])[0])
        offs = np.array([abs(off[0]) for found in after.values() for off in found])
        within = np.mean([abs(off[0]) * off[1] < off[2] for found in after.values() for off in found])
        kinds = {trial.candidate.name for trial in trials}
        figures = np.median([abs(off[0]) for off in before.values()]), np.median(offs), np.quantile(offs, 0.9), within
        cells = (f"{figure:.1%}" for figure in figures)
        summary.add_row(name, str(len(trials)), str(len(kinds)), *cells, f"{np.median(ranks):.2f}")
        if each:
            console.print(_each(name, trials, before, after))
    console.print(summary)


def _each(name: str, trials: Sequence[Trial], before: Any, after: Any) -> Table:
    table = Table(title=f"{name}: medians of each method")
    for heading in ("method", "measured", "before any", "error", "after three of others", "error"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for kind in sorted({trial.candidate.name for trial in trials}):
        own = [trial for trial in trials if trial.candidate.name == kind]
        first = [before[trial.number] for trial in own]
        then = [off for trial in own for off in after[trial.number]]
        measured = f"{np.median([_measured(trial) for trial in own]):.1f} s"
        cells = [
            (f"{np.median([off[1] for off in offs]):.1f} s", f"{np.median([off[0] for off in offs]):+.0%}")
            for offs in (first, then)
            if offs
        ]
        table.add_row(kind, measured, *(text for cell in cells for text in cell))
    return table


def _learned(trials: Sequence[Trial], load: Load, rates: Rates, rng: np.random.Generator) -> tuple[Seconds, set[str]]:
    """From three trials of three methods, which are returned too."""
    learned, chosen = Seconds(load, lambda: rates), set[str]()
    taken = 0
    for at in rng.permutation(len(trials)):
        if taken < 3 and not set(_methods(trials[at])) & chosen:
            learned.learn(trials[at])
            chosen |= set(_methods(trials[at]))
            taken += 1
    return learned, chosen


def _errors(trials: Sequence[Trial], seconds: Seconds) -> dict[int, tuple[float, float, float]]:
    """By trial: how far off, as a fraction of what was measured, what was predicted, and its stated error."""
    found = {}
    for trial in trials:
        expected = seconds.expected(trial.candidate, trial.predicted)
        assert expected is not None
        found[trial.number] = expected.seconds / _measured(trial) - 1, expected.seconds, expected.error
    return found


def _measured(trial: Trial) -> float:
    assert trial.outcome is not None
    return trial.outcome.seconds


def _methods(trial: Trial) -> list[str]:
    return [part.method for part in trial.candidate.parts]


if __name__ == "__main__":
    main()
