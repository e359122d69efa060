"""Options that several commands share, made from the dataclasses that hold them."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import click

from autopeft.cli.printing import say
from autopeft.objectives import SCORE, UNITS
from autopeft.plan import DTYPES, KEPT, LOSS_ON, QUANTISED, SAMPLERS, Budget, Resources, field_docs

Command = TypeVar("Command", bound=Callable[..., Any])
_SIZES = {
    **{name: unit.metavar for name, unit in UNITS.items()},
    "time": "DURATION",
    "timeout": "DURATION",
    "sampler": "|".join(SAMPLERS),
    "keep": "|".join(KEPT),
    "loss_on": "|".join(LOSS_ON),
    "dtype": "|".join((*DTYPES, *QUANTISED)),
    "columns": "ROLE=NAME[,…]",
}
"""Options that the dataclasses read as text, and how to write them."""
_RENAMED: Mapping[type, Mapping[str, str]] = {Budget: {"accuracy_at_least": SCORE}}
"""What options were called; the old names go on working, and are not shown."""
CALLED: Mapping[tuple[type, str], str] = {(Budget, "time"): "seconds_per_trial"}
"""Options that have other names than their fields: a plan has a time, too."""
STORAGE = "AUTOPEFT_STORAGE"
"""The variable that says where searches are remembered, so that a password stands in no list of processes."""
storage_option = click.option(
    "--storage", envvar=STORAGE, default=Resources.storage, show_default=True, help=field_docs(Resources)["storage"]
)
folder_option = click.option(
    "--folder",
    metavar="FOLDER",
    help=f"The run folder, where it does not lie where it was.  [default: {Resources.folder}]",
)
name_argument = click.argument("name", required=False)
MOVED = {
    "model": "Where the model lies now, if elsewhere.",
    "data": "Where the data lies now, if elsewhere.",
    "space": "The folder of your own cards: where it lies now, and that code which they name may run.",
    "task": "A task of your own once more, as in my_task.py:MyTask: where it lies now, and that it may run.",
    "metric": "The same of a metric of your own, as in my_metric.py:score.",
}
trusting_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Say once more that code that comes with the model may run: a database alone does not decide that.",
)


def options_of(kind: type, *leave_out: str) -> Callable[[Command], Command]:
    """One option for each field of a dataclass; what is not given is None."""

    def decorate(command: Command) -> Command:
        hints, docs = get_type_hints(kind), field_docs(kind)
        for each in reversed(fields(kind)):
            if each.name in leave_out:
                continue
            default = ",".join(each.default) if isinstance(each.default, tuple) else each.default
            silent = default in (None, "", MISSING) or isinstance(default, bool)
            shown = "" if silent else f"  [default: {default}]"
            called = CALLED.get((kind, each.name), each.name)
            command = click.option(
                f"--{called.replace('_', '-')}",
                called,
                envvar=STORAGE if each.name == "storage" else None,
                **_kind(each.name, hints[each.name]),
                help=docs[each.name] + shown,
            )(command)
        for old in _RENAMED.get(kind, ()):
            command = click.option(f"--{old.replace('_', '-')}", old, hidden=True)(command)
        return command

    return decorate


def _kind(name: str, hint: Any) -> dict[str, Any]:
    """How the option of a field is given: a flag, or with a value."""
    if hint is bool:
        return {"is_flag": True, "default": None}
    return {
        "type": str if name in _SIZES else _scalar(hint),
        "metavar": _SIZES.get(name) or _metavar(hint),
    }


def _scalar(hint: Any) -> type:
    """What the option of a field is read as; several values are one text with commas."""
    kind = next(one for one in get_args(hint) if one is not type(None)) if isinstance(hint, UnionType) else hint
    return kind if kind in (int, float) else str


def _metavar(hint: Any) -> str | None:
    return "NAME[,NAME…]" if get_args(hint)[:1] == (str,) and ... in get_args(hint) else None


def given_of(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The options that belong to a dataclass and were given."""
    called = {each.name: CALLED.get((kind, each.name), each.name) for each in fields(kind)}
    given = {name: options[its] for name, its in called.items() if options.get(its) is not None}
    for old, new in _RENAMED.get(kind, {}).items():
        if options.get(old) is not None:
            say(f"--{old.replace('_', '-')} is called --{new} now.", err=True)
            given.setdefault(new, options[old])
    return given


def moved_options(*names: str) -> Callable[[Command], Command]:
    """Options for what a plan names and was moved since."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = click.option(f"--{name}", help=MOVED[name])(command)
        return command

    return decorate
