"""Six methods on a SmolLM2 whose matrices are quantised: searched until each was trained, gone on with, confirmed,
given away and merged into the unquantised backbone; memory as it was predicted beside what was measured.

    pip install autopeft[quantised,demo]
    python benchmarks/quantised.py --dtypes nf4 int8
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import autopeft
from autopeft.backbone.gguf import unpacked
from autopeft.data.demo import chat_data, chat_model
from autopeft.trial import Status

METHODS = ("lora", "ia3", "norm_tuning", "prefix_tuning", "adapter", "miss")
ROWS = {"train": 64, "validation": 32, "test": 32}
ASKED = [
    {"role": "system", "content": "Write a headline."},
    {"role": "user", "content": "The bank has raised interest rates to their highest for three years."},
]


def data(folder: Path) -> Path:
    """A few of the packaged conversations."""
    few = folder / "few"
    few.mkdir()
    stories = chat_data(folder)
    for split, count in ROWS.items():
        with (stories / f"{split}.jsonl").open(encoding="utf-8") as lines:
            (few / f"{split}.jsonl").write_text("".join(islice(lines, count)), encoding="utf-8")
    return few


def trained(search: autopeft.Search) -> set[str]:
    """Methods of which a trial finished."""
    return {each.candidate.name for each in search.trials if each.status is Status.FINISHED}


def measure(held: str, folder: Path, model: str, rows: str, most: int) -> None:
    began = time.perf_counter()

    def told(what: str) -> None:
        print(f"{held} {time.perf_counter() - began:6.0f} s  {what}", flush=True)

    where: dict[str, Any] = {
        "workers": 0,
        "storage": f"sqlite:///{folder}/{held}.db",
        "folder": str(folder / held),
        "quiet": True,
    }
    search = autopeft.search(
        model=model, data=rows, methods=METHODS, dtype=held, max_length=96, trials=len(METHODS), keep="all", **where
    )
    told(f"searched: {len(search.trials)} trials")
    while (missing := {*METHODS} - trained(search)) and len(search.trials) < most:
        search = autopeft.resume(search.name, trials=len(search.trials) + len(missing), **where)
        told(f"gone on with: {len(search.trials)} trials, not finished yet: {', '.join(sorted(missing)) or 'none'}")
    for trial in search.trials:
        outcome = trial.outcome
        cells = [f"{trial.number:>3} {trial.candidate.name:<14} {trial.status.value:<9}"]
        if trial.score is not None:
            cells.append(f"loss {trial.score:.3f} ± {trial.error or 0:.3f}")
        if outcome is not None and outcome.measured is not None:
            apart = trial.predicted.memory / outcome.measured.memory - 1
            cells.append(f"memory {outcome.measured.memory / 2**20:.1f} MiB, predicted {apart:+.2%}")
        told("  ".join(cells))
    for name, baseline in search.record.baselines.items():
        told(f"{name}: {baseline.score:.3f}")
    confirmed = search.confirm(1, **where)
    for each in confirmed.record.confirmations:
        told(f"confirmed trial {each.number}: {each.status.value}")
    best = min((each for each in search.trials if each.candidate.name == "lora"), key=lambda each: each.score or 1e9)
    best.save(folder / f"{held}-winner")
    winner = autopeft.load(folder / f"{held}-winner")
    told(f"given away, held in {winner.backbone.holding}: {winner.generate(ASKED, max_new_tokens=16)!r}")
    best.save(folder / f"{held}-merged", merge=True)
    merged = autopeft.load(folder / f"{held}-merged")
    told(f"merged, held in {merged.backbone.holding}: {merged.generate(ASKED, max_new_tokens=16)!r}")
    card = (folder / f"{held}-merged" / "README.md").read_text(encoding="utf-8")
    told(next(line for line in card.splitlines() if "merged into the unquantised backbone" in line))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["nf4", "int8"], help="How matrices are held.")
    parser.add_argument("--most", type=int, default=24, help="Trials of a search at most.")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, rows = str(unpacked(chat_model(), folder / "smollm2")), str(data(folder))
        for held in given.dtypes:
            measure(held, folder, model, rows, given.most)


if __name__ == "__main__":
    main()
