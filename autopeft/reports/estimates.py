"""What every method would cost on one model: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from autopeft.costs.told import About, Estimate
from autopeft.objectives import COSTS, show
from autopeft.reports.format.json import plain
from autopeft.sizes import show_bytes, show_seconds
from autopeft.trial import Costs

_COSTS = ("trainable", "stored", "memory", "flops")
_VERSION = 1
"""Grows when a field of the JSON changes its meaning or goes away."""


def heading(about: About, assumed: Sequence[str]) -> Sequence[str]:
    """What is estimated, in a line, and what of it nobody asked for; `assumed` are fields of `about`."""
    step = f"{about.batch_size} x {about.length} tokens in a step"
    step += ", activations recomputed" if about.gradient_checkpointing else ""
    limit = "" if about.memory is None else f", within {show_bytes(about.memory)}"
    lines = [f"{about.task} with {about.model}: {step}, weights in {about.dtype}{limit}"]
    if assumed:
        said = ", ".join(f"--{name.replace('_', '-')} {_value(about, name)}" for name in assumed)
        lines.append(f"Assumed, as nothing else was asked for: {said}.")
    return [*lines, ""]


def _value(about: About, name: str) -> str:
    value = getattr(about, name)
    return show_bytes(value).replace(" ", "") if name == "memory" else str(value)


def estimates_json(about: About, assumed: Sequence[str], estimates: Sequence[Estimate]) -> str:
    """JSON, indented, ending in a newline: sizes in bytes, what does not go on the model with the reason."""
    whole = {
        "format": "autopeft estimate",
        "version": _VERSION,
        "about": asdict(about),
        "assumed": assumed,
        "methods": [asdict(each) for each in estimates],
    }
    return json.dumps(plain(whole), indent=2, allow_nan=False) + "\n"


def estimate_lines(
    estimates: Sequence[Estimate], limited: bool, rows_to_train_on: int | None = None
) -> tuple[Sequence[tuple[str, ...]], Sequence[str]]:
    """Rows of the table, headings first, and notes to stand below it; `limited` where there was a limit of memory, and
    `rows_to_train_on` where seconds were asked for.
    """
    headings = ("method", *(COSTS[name].heading for name in _COSTS), "overhead")
    headings += ("time",) if rows_to_train_on is not None else ()
    rows = [headings + (("batch that fits", "size that fits") if limited else ())]
    for each in estimates:
        if each.costs is not None:
            seconds = (_seconds(each),) if rows_to_train_on is not None else ()
            rows.append((each.name, *_shown(each.costs), *seconds, *(_fitting(each) if limited else ())))
    notes = ["", "overhead: more computation at inference than the bare backbone, after what merges was merged."]
    if limited:
        notes.append("What fits: the most with all else as asked, up to 1024 examples and the backbone's width.")
    if rows_to_train_on is not None:
        notes.append(
            f"time: of a whole training on {rows_to_train_on:,} rows on this device as it is, else by the defaults, "
            "with its standard error; a search learns from every trial how long the next ones take."
        )
    refused = [f"{each.name}: {each.refused}" for each in estimates if each.costs is None]
    return rows, [*notes, *(["", "Not on this model:", *refused] if refused else [])]


def _shown(costs: Costs) -> tuple[str, ...]:
    return *(show(name, getattr(costs, name)) for name in _COSTS), f"{costs.overhead or 0:.1%}"


def _seconds(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return "-"
    return f"{show_seconds(estimate.seconds.seconds)} ± {estimate.seconds.error / estimate.seconds.seconds:.0%}"


def _fitting(estimate: Estimate) -> tuple[str, str]:
    sizes = {name: most for name, most in estimate.largest.items() if name != "batch_size"}
    return _most(estimate.largest["batch_size"]), ", ".join(f"{name} {_most(most)}" for name, most in sizes.items())


def _most(value: int) -> str:
    return str(value) if value else "none"
