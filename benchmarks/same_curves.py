"""Do eight given candidates still train to the bit as they did? For changes that should change nothing.

    python benchmarks/same_curves.py [--write] [--data ../shared/data/sst2]

The packaged MiniLM on SST-2 at the cards' defaults, one epoch, one seed, one thread. `--write` records the curves in
`recorded/same_curves.json`; without it they are compared with those. Bits hold for one kind of processor and one
version of torch, which are recorded, too.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from autopeft.data.demo import demo_model
from autopeft.plan import Plan
from autopeft.searching.here import train_here
from autopeft.searching.preparation import prepare
from autopeft.trial import Outcome, Rung, Trial

KINDS = ("lora", "adapter", "prefix_tuning", "fishmask", "ladder", "unipelt", "adamix", "full")
RECORDED = Path(__file__).parent / "recorded" / "same_curves.json"
SEED = 0


class Ledger:
    """Gives the trials in turn, stops none, and keeps their curves to the bit."""

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials
        self._names: dict[int, str] = {}
        self.curves: dict[str, list[tuple[int, str, str]]] = {}

    def next(self) -> Trial | None:
        if not self._trials:
            return None
        trial = self._trials.pop(0)
        self._names[trial.number] = trial.candidate.name
        self.curves[trial.candidate.name] = []
        return trial

    def rung(self, number: int, rung: Rung) -> bool:
        self.curves[self._names[number]].append((rung.step, rung.score.hex(), rung.loss.hex()))
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        shown = [round(float.fromhex(accuracy), 4) for _, accuracy, _ in self.curves[self._names[number]]]
        print(f"{self._names[number]}: {shown} {outcome.status} {outcome.reason}", flush=True)


def trained(data: str) -> Mapping[str, Any]:
    """The curves, and what their bits depend on."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(str(demo_model()), data, methods=KINDS, seed=SEED)
        prepared = prepare(plan, Path(folder), "trained", print)
        candidates = [prepared.space.defaults(kind) for kind in KINDS]
        trials = [
            Trial(number, candidate, prepared.predict(candidate), {}, SEED)
            for number, candidate in enumerate(candidates, 1)
        ]
        ledger = Ledger(trials)
        train_here(ledger, prepared.job)
    where = {
        "torch": torch.__version__,
        "processor": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    return {**where, "curves": ledger.curves}


def main() -> None:
    """Trains, and records or compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "sst2"))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = json.loads(json.dumps(trained(options.data)))
    if options.write:
        RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return
    before = json.loads(RECORDED.read_text(encoding="utf-8"))
    for kind in KINDS:
        same = "the same to the bit" if found["curves"][kind] == before["curves"][kind] else "DIFFERS"
        print(f"{kind}: {same}")
    for name in ("torch", "processor", "capability"):
        if found[name] != before[name]:
            print(f"{name} was {before[name]}, is {found[name]}: bits may differ for that reason")


if __name__ == "__main__":
    main()
