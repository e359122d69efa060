"""Judging a language model by what it writes after prompts of a split, beside the answers that are expected.

Prompts are the same in every trial: the first of one order of the rows, few at rungs, and more at the end. Rows are
left out whose answer is empty, or was cut short. An answer may be as long as the longest that is expected, in tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from autopeft.backbone.load import Backbone
from autopeft.data.store import Dataset
from autopeft.errors import AutopeftError
from autopeft.tasks.base import Task
from autopeft.tasks.metrics import Array
from autopeft.tasks.texts import IDS
from autopeft.tasks.written import Written, WrittenMetric
from autopeft.training.batches import MOST_TOKENS
from autopeft.training.generation import writer
from autopeft.training.model import TaskModel

AT_RUNGS, AT_THE_END = 64, 500
"""Prompts that a model is asked, at most."""
SHOWN = 5
"""Texts that are kept, to be shown."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Questions:
    """Prompts of a split, and the answers that are expected."""

    prompts: tuple[tuple[int, ...], ...]
    """As tokens."""
    said: tuple[tuple[str, str], ...]
    """Prompts and answers as texts."""
    most: int
    """Tokens of the longest answer."""

    @classmethod
    def of(cls, data: Dataset, tokenizer: Any, task: Task) -> Self:
        """Of all rows of a split."""
        prompts, said, most = [], [], 1
        for row in range(len(data)):
            prompt, answer = task.parted(data.columns[IDS][row], data.targets[row])
            prompts.append(tuple(prompt))
            said.append((_text(tokenizer, prompt), _text(tokenizer, answer)))
            most = max(most, len(answer))
        return cls(tuple(prompts), tuple(said), most)


def at_once(tokens: int, width: int) -> int:
    """Texts of this width in tokens, prompts and all, that are written at once where so many padded ones are read."""
    return int(np.clip(tokens // width, 1, _AT_ONCE))


def chosen(data: Dataset, tokenizer: Any, task: Task, count: int) -> np.ndarray:
    """The rows of a split that are asked, so many at most, in their order. Raises AutopeftError where there is none."""
    found: list[int] = []
    for row in np.random.default_rng(0).permutation(len(data)).tolist():
        prompt, answer = task.parted(data.columns[IDS][row], data.targets[row])
        if len(found) < count and prompt and data.lengths[row] < data.longest and _text(tokenizer, answer):
            found.append(row)
    if not found:
        raise AutopeftError(
            f"no row has an answer that could be held against what a model writes: each is empty, or cut short after "
            f"{data.longest:,} tokens (--max-length)."
        )
    return np.array(found)


@dataclass
class Judge:
    """Asks a model, and counts what its metric needs of what it writes."""

    backbone: Backbone
    task: Task
    metric: WrittenMetric
    questions: Questions
    tokens: int = MOST_TOKENS
    """Padded ones that are computed at once."""
    ask: Callable[[], object] | None = None
    """Is called for each token, and may raise what ends the writing."""
    at_rungs: int = AT_RUNGS
    """Questions that are asked at each rung but the last."""
    shown: Sequence[Mapping[str, str]] = ()
    """Some texts of the last time that all questions were asked."""

    def __call__(self, model: TaskModel, last: bool = True) -> Array:
        """(rows, k) of all questions, or of the first ones where this is not the `last` rung. Raises AutopeftError."""
        texts = self.written(model, len(self.questions.prompts) if last else self.at_rungs)
        if last:
            self.shown = [each._asdict() for each in texts[:SHOWN]]
        return self.metric.count(texts)

    def written(self, model: TaskModel, count: int) -> Sequence[Written]:
        """What the model writes after the first prompts."""
        prompts, said = self.questions.prompts[:count], self.questions.said[:count]
        width = max(map(len, prompts)) + self.questions.most
        write = writer(self.backbone, self.task.ends(self.backbone), model.attached, ask=self.ask)
        found = write(prompts, self.questions.most, at_once(self.tokens, width))
        tokenizer = self.backbone.tokenizer
        return [Written(*both, _text(tokenizer, ids)) for both, ids in zip(said, found, strict=True)]


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
