"""A winner's answer to a text beside the answer of what needs no fine-tuning: to see what the training was for.

A language model is asked with the method and without it. Of other tasks the constant answers, which the training data
tells. One winner at a time is held, however many are asked for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopeft.artifacts.loading import load
from autopeft.artifacts.trained import TrainedModel
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach_saved
from autopeft.plan import Plan
from autopeft.tasks.texts import IDS
from autopeft.tasks.understanding import understand

_TOKENS = 128
"""Of an answer, at most."""


@dataclass
class _Held:
    key: tuple[Any, ...]
    trained: TrainedModel
    constant: str
    """What the constant baseline answers; empty of a language model, and where the data tells nothing."""


_held: list[_Held] = []


def answers(folder: str, plan: dict[str, Any], text: str, second: str, trust_remote_code: bool) -> dict[str, str]:
    """What the winner in a folder answers, and what the baseline does; `second` is the other text of a pair. Raises
    AutopeftError.
    """
    key = (folder, Path(folder).stat().st_mtime_ns if Path(folder).is_dir() else 0)
    if not _held or _held[0].key != key:
        _held.clear()  # Before another one is loaded: two may not have room.
        trained = load(folder, plan["model"], trust_remote_code=trust_remote_code)
        if trained.task.reads != IDS:
            raise AutopeftError(f"the model reads {trained.task.noun}s; only those that read texts can be tried here.")
        _held.append(_Held(key, trained, "" if trained.task.causal else _constant(Plan.from_dict(plan))))
    held = _held[0]
    given = (text, second) if held.trained.task.asks[0].startswith("(") else text
    told = {"answer": _answer(held.trained, given), "of": held.trained.task.constant, "baseline": held.constant}
    return told | ({"baseline": _without(held, Path(folder), given)} if held.trained.task.causal else {})


def _answer(trained: TrainedModel, given: Any) -> str:
    return str(trained.generate(given, _TOKENS) if trained.task.causal else trained.predict(given))


def _without(held: _Held, folder: Path, given: Any) -> str:
    """The answer of the backbone as it is; the method is attached again afterwards."""
    trained = held.trained
    if trained.attached is None:
        return ""
    backbone, head, described = trained.backbone, trained.model.head, trained.description
    trained.attached.detach()
    try:
        return _answer(TrainedModel(backbone, None, head, described), given)
    finally:
        held.trained = TrainedModel(backbone, attach_saved(backbone.model, folder, backbone.sites), head, described)


def _constant(plan: Plan) -> str:
    """The answer that suits most of the training data."""
    found = understand(plan.data, plan.given, plan.task, plan.seed, plan.separator, plan.loss_on)
    try:
        output = found.task.best_constant(found.splits["train"])  # type: ignore[arg-type]
        return str(found.task.answers(output[None], ("",))[0])
    except (ValueError, TypeError, LookupError, RuntimeError):
        return ""  # A task whose answers are as long as its inputs, or one of the user's own.
