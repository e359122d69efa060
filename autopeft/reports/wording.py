"""Candidates, values and moments as people read them; the same words in every report and in the live display."""

import math
from collections.abc import Collection
from typing import Any

from autopeft.objectives import UNBOUNDED, Objective
from autopeft.space.candidate import OF_TASKS, Candidate, Part
from autopeft.trial import Trial

_UNTOLD: tuple[Any, ...] = (None, False, 0, "", "all", "none")
"""Settings that leave something out of play; the short description does without them."""
_PLAINLY = {"start True": "init default", "start pissa_niter_4": "init pissa", "factor -1": "factor auto"}
"""Settings whose values say something to those only who know what a method's code reads."""


def capital(text: str) -> str:
    """As it begins a sentence; `FLOPs` stays as it is."""
    return text[:1].upper() + text[1:]


def show_setting(value: Any) -> str:
    """A hyperparameter's value: `q,v`, `0.002`, `8`."""
    if isinstance(value, list | tuple):
        return ",".join(show_setting(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plainly(name: str, value: Any, between: str = " ") -> str:
    """A setting with its value, in words that need no look into the code: `rank=8`, `dora`, `init default`."""
    shown = show_setting(value)
    if said := _PLAINLY.get(f"{name} {shown}"):
        return said
    return f"{'' if value else 'no '}{name}" if isinstance(value, bool) else f"{name}{between}{shown}"


def describe(candidate: Candidate) -> str:
    """A candidate on one line, its main settings only: `lora rank=8 sites=q,v + adapter bottleneck=16`."""
    parts = " + ".join(_part(part, whole=False) for part in candidate.parts)
    return parts if _is_said_by_parts(candidate) else f"{candidate.name}: {parts}"


def describe_fully(candidate: Candidate, of_task: Collection[str] = OF_TASKS) -> str:
    """A candidate with every setting, learning rates and training included; of those about the head, what its task
    has.
    """
    parts = " + ".join(
        f"{_part(part, whole=True)} (learning rate {show_setting(part.learning_rate)}"
        + (f", weight decay {show_setting(part.weight_decay)})" if part.weight_decay else ")")
        for part in candidate.parts
    )
    training = candidate.training
    batch = f"batch {training.batch_size}"
    if training.micro_batch_size is not None and training.micro_batch_size != training.batch_size:
        batch += f" in steps of {training.micro_batch_size}"
    head = f"head from {training.head_start} (learning rate {show_setting(training.head_learning_rate)})"
    rest = [
        *([head] if "head_start" in of_task else []),
        *([f"{training.pooling} pooling"] if "pooling" in of_task else []),
        batch,
        f"{training.epochs:g} epoch" + ("" if training.epochs == 1 else "s"),
        *([f"{training.least_steps} steps at least"] if training.least_steps else []),
        f"warmup {training.warmup:g}",
        *([f"{training.schedule} decay"] if training.schedule != "linear" else []),
        f"clip {training.clip:g}",
        *(["gradient checkpointing"] if training.gradient_checkpointing else []),
        *(["flips"] if training.flip else []),
        *([f"shifts {training.shift:g}"] if training.shift else []),
    ]
    named = "" if _is_said_by_parts(candidate) else f"{candidate.name}: "
    return f"{named}{parts}; {', '.join(rest)}"


def so_far(trial: Trial) -> str:
    """What a score is followed by that is not of a whole training: ` after 11%`; empty where it is."""
    return f" after {trial.share:.0%}" if trial.is_model and trial.share < 1 else ""


def trained_in_part(trial: Trial) -> str:
    """That a model is not of a whole training, and why; empty where it is."""
    if not so_far(trial):
        return ""
    ended = f"was stopped{so_far(trial)} of its training ({why(trial)})" if trial.outcome else "is still being trained"
    return f"Trial {trial.number} {ended}: its score and its weights are those that it had{so_far(trial)}."


def beside(trial: Trial) -> tuple[tuple[str, str], ...]:
    """Further metrics of a trial, which nothing is judged by, with their values and, where known, errors."""
    return tuple(
        (name, Objective(name, name, UNBOUNDED, ideal=None).show_with(value, trial.other_errors.get(name) or None))
        for name, value in trial.others.items()
        if math.isfinite(value)
    )


def first_line(reason: str) -> str:
    """A reason's first line that says something; reasons may be long."""
    return next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")


def why(trial: Trial) -> str:
    """Why a trial stopped or failed, on one line."""
    return first_line(trial.outcome.reason if trial.outcome else "")


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`, `1,024 trials`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def numbers(trials: tuple[int, ...], most: int = 8) -> str:
    """`trial 4`, `trials 4, 7, 9`, `trials 1, 2 and 30 more`."""
    shown = ", ".join(str(number) for number in trials[:most])
    more = f" and {len(trials) - most} more" if len(trials) > most else ""
    return f"{'trial' if len(trials) == 1 else 'trials'} {shown}{more}"


def _is_said_by_parts(candidate: Candidate) -> bool:
    return candidate.name == "+".join(part.method for part in candidate.parts)


def _part(part: Part, whole: bool) -> str:
    said = {name: value for name, value in part.settings.items() if whole or value not in _UNTOLD}
    return " ".join([part.method, *(plainly(name, value, "=") for name, value in said.items())])
