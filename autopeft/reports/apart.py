"""Trials of one table as people tell them apart: by their main settings, and where these are alike, by what differs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from autopeft.reports.wording import describe, show_setting
from autopeft.space.candidate import Candidate
from autopeft.trial import Trial


def apart(trials: Iterable[Trial]) -> Mapping[int, str]:
    """Each candidate on one line, by the number of its trial: `bitfit`, or `bitfit (learning rate 0.002, batch size
    16)` beside another `bitfit`, with as many settings as it takes. Candidates that are equal in all stay alike.
    """
    alike: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        alike[describe(trial.candidate)].append(trial)
    said: dict[int, str] = {}
    for short, group in alike.items():
        settings = [_settings(trial.candidate) for trial in group]
        shown = _telling(settings)
        for trial, values in zip(group, settings, strict=True):
            more = ", ".join(f"{name} {values[name]}" for name in shown if name in values)
            said[trial.number] = f"{short} ({more})" if more else short
    return said


def _telling(settings: list[Mapping[str, str]]) -> list[str]:
    """The first names by whose values all can be told apart that differ in anything."""
    shown: list[str] = []
    kinds = 1
    for name in dict.fromkeys(name for values in settings for name in values):
        told = len({tuple(values.get(each) for each in (*shown, name)) for values in settings})
        if told > kinds:
            shown, kinds = [*shown, name], told
    return shown


def _settings(candidate: Candidate) -> Mapping[str, str]:
    """Everything that may differ, by name: of the parts, then of the training."""
    said = {}
    for number, part in enumerate(candidate.parts):
        before = f"{part.method} " if len(candidate.parts) > 1 else ""
        trained = {"learning rate": part.learning_rate, "weight decay": part.weight_decay}
        for name, value in {**trained, **part.settings}.items():
            said[f"{before}{name}" if f"{before}{name}" not in said else f"{before}{number + 1} {name}"] = value
    said |= {name.replace("_", " "): value for name, value in asdict(candidate.training).items()}
    return {name: show_setting(value) for name, value in said.items()}
