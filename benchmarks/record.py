"""Records what random candidates of a space achieve, for `samplers.py` to replay: one row for each, with three rungs;
and what every combination of settings costs, in a second table.

    python benchmarks/record.py --data path/to/sst2 --table benchmarks/recorded/sst2.csv
    python benchmarks/record.py --data path/to/sick-nli --table benchmarks/recorded/sick-nli.csv
    python benchmarks/record.py --data path/to/e2e --table benchmarks/recorded/e2e.csv --space language --count 100 \\
        --rows 600 --validation-rows 150 --test-rows 200 --max-length 160

The folder has train.csv, validation.csv and test.csv. The backbone is the packaged MiniLM, and of language models
SmolLM2-135M (`make demo-chat` installs it), trained on a part of the data: few rows, so that a candidate takes some
twenty seconds, and a language model's some minutes. The space is one of `recording.py`. Every candidate is
trained to its end, and its last step answers the test rows, once. (Of the tables that lie here the best of the three
rungs on validation data answered them.) Candidates follow from the seed. Costs depend on settings alone, and are
predicted for all of them (`sst2.costs.csv`). What the tables hold already is not done again, so that a recording can be
interrupted and gone on with at any time, with the same options. Seconds are the processor's, on one thread: other work
does not lengthen them, and two tables can be recorded at once.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from recording import DEFAULT, LANGUAGE, VARYING, combinations, costs_beside, recording_space, settings_of

from autopeft.backbone.gguf import unpacked
from autopeft.data.demo import chat_model, demo_model
from autopeft.errors import CannotAttach
from autopeft.objectives import objectives_named
from autopeft.plan import Plan
from autopeft.searching.confirm.worker import Again, Answered
from autopeft.searching.here import train_here
from autopeft.searching.preparation import prepare
from autopeft.searching.proposer import Proposer
from autopeft.space.candidate import Candidate
from autopeft.trial import Costs, Outcome, Rung, Trial

SEED = 0
COSTS = ("trainable", "memory", "stored", "flops")
COLUMNS = ("number", "name", "params", *COSTS, "status", "reason", "seconds", "curve", "test")
COLUMNS_OF_COSTS = ("settings", *COSTS)


@dataclass
class Recorder:
    """A ledger that gives random candidates, stops none, and writes each result as it arrives."""

    proposer: Proposer
    predict: Callable[[Candidate], Costs]
    table: Path
    count: int
    done: set[int] = field(default_factory=set)
    under_way: dict[int, Trial] = field(default_factory=dict)
    curves: dict[int, list[Rung]] = field(default_factory=dict)
    number: int = 0
    began: float = 0.0
    """Processor seconds when the trial under way began."""

    def next(self) -> Trial | None:
        while self.number < self.count:
            self.number += 1
            proposal = self.proposer.propose()
            if self.number in self.done:
                continue
            try:
                costs = self.predict(proposal.candidate)
            except CannotAttach as reason:
                print(f"{self.number} {proposal.candidate.name}: {reason}", flush=True)
                continue
            self.curves[self.number] = []
            trial = Trial(self.number, proposal.candidate, costs, proposal.params, seed=self.number)
            self.under_way[self.number] = trial
            self.began = time.process_time()
            return trial
        return None

    def rung(self, number: int, rung: Rung) -> bool:
        self.curves[number].append(replace(rung, seconds=time.process_time() - self.began))
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        trial, curve, seconds = self.under_way.pop(number), self.curves.pop(number), time.process_time() - self.began
        test = outcome.test.score if isinstance(outcome, Answered) and outcome.test else None
        row: Mapping[str, Any] = {
            "number": number,
            "name": trial.candidate.name,
            "params": json.dumps(dict(trial.params)),
            **{name: getattr(trial.predicted, name) for name in COSTS},
            "status": outcome.status.value,
            "reason": outcome.reason,
            "seconds": round(seconds, 1),
            "curve": json.dumps([[r.step, r.steps, round(r.score, 4), round(r.seconds, 2)] for r in curve]),
            "test": "" if test is None else round(test, 4),
        }
        add(self.table, COLUMNS, row)
        reached = ", ".join(f"{rung.score:.3f}" for rung in curve)
        print(f"{number} {trial.candidate.name}: {reached}, test {test} {outcome.reason} ({seconds:.0f} s)", flush=True)


def record_costs(base: str, predict: Callable[[Candidate], Costs], table: Path) -> None:
    """One row for every combination of settings that can be attached."""
    known = set(pd.read_csv(table)["settings"]) if table.exists() else set()
    for candidate in combinations(base):
        settings = settings_of(candidate, base)
        if settings in known:
            continue
        try:
            costs = predict(candidate)
        except CannotAttach as reason:
            print(f"{settings}: {reason}", flush=True)
            continue
        add(table, COLUMNS_OF_COSTS, {"settings": settings, **{name: getattr(costs, name) for name in COSTS}})


def add(table: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Appends a row, below a heading where the table is new."""
    new = not table.exists()
    with table.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        if new:
            writer.writeheader()
        writer.writerow(row)


def part_of(data: Path, folder: Path, counts: Mapping[str, int]) -> Path:
    """A folder with so many rows of each split, chosen by the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        rows = pd.read_csv(data / f"{split}.csv")
        rows.sample(n=min(count, len(rows)), random_state=SEED).to_csv(folder / f"{split}.csv", index=False)
    return folder


def recorded(table: Path) -> set[int]:
    """Numbers that a table holds already."""
    return set(pd.read_csv(table)["number"]) if table.exists() else set()


def main() -> None:
    """Trains what has not been trained yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of train.csv, validation.csv and test.csv")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--space", choices=VARYING, default=DEFAULT, help="what candidates are drawn from")
    parser.add_argument("--count", type=int, default=210)
    parser.add_argument("--rows", type=int, default=960, help="rows to train on")
    parser.add_argument("--validation-rows", type=int, default=500)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--max-length", type=int, default=32, help="tokens of a text")
    parser.add_argument("--folder", type=Path, default=Path("recording"), help="folder for prepared data")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    options.table.parent.mkdir(parents=True, exist_ok=True)
    counts = {"train": options.rows, "validation": options.validation_rows, "test": options.test_rows}
    data = part_of(options.data, options.folder / options.data.name, counts)
    options.folder.mkdir(parents=True, exist_ok=True)
    language = options.space == LANGUAGE
    model = unpacked(chat_model(), options.folder / "smollm2-135m-instruct") if language else demo_model()
    methods = tuple(VARYING[options.space])
    plan = Plan(str(model), str(data), space=options.space, methods=methods, max_length=options.max_length, seed=SEED)
    prepared = prepare(plan, options.folder.absolute(), options.table.stem, print)
    objectives = objectives_named(plan.objectives, prepared.metric)
    proposer = Proposer(recording_space(options.space), objectives, "random", SEED)
    done = recorded(options.table)
    recorder = Recorder(proposer, prepared.predict, options.table, options.count, done)
    known = ", ".join(f"{name} {each.score:.3f}" for name, each in prepared.baselines.items())
    print(f"{len(done)} of {options.count} are recorded; {known}", flush=True)
    record_costs(options.space, prepared.predict, costs_beside(options.table))
    train_here(recorder, Again(prepared.job))


if __name__ == "__main__":
    main()
