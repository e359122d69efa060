"""What tasks share that write texts: a language model's own head, how it is judged, and what it has no use for."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from autopeft.backbone.load import Backbone
from autopeft.data.store import Dataset
from autopeft.tasks.base import Task
from autopeft.tasks.heads import Head
from autopeft.tasks.metrics import LOSS, PERPLEXITY, TOKEN_ACCURACY
from autopeft.tasks.written import BLEU, CHRF, EXACT_MATCH, ROUGE_L


@dataclass(frozen=True)
class WritingTask(Task, ABC):
    """Texts are written, token by token."""

    metrics: ClassVar = (LOSS, PERPLEXITY, TOKEN_ACCURACY)
    written: ClassVar = (EXACT_MATCH, ROUGE_L, CHRF, BLEU)
    constant: ClassVar = "backbone as it is"
    settings: ClassVar = {}
    space: ClassVar = "language"
    causal: ClassVar = True

    def best_constant(self, train: Dataset) -> Tensor:
        raise NotImplementedError("what needs no training is the backbone as it is")

    def fit(self, head: Head, features: np.ndarray, targets: np.ndarray) -> None:
        raise NotImplementedError("the head has no weights of its own")

    def answers(self, output: Any, inputs: Sequence[Any]) -> Sequence[Any]:
        raise NotImplementedError("texts are written token by token")


def vocabulary_of(backbone: Backbone) -> int | None:
    """How many tokens the model can read and write; None where that is not known."""
    known = [backbone.vocabulary, backbone.output.tokens if backbone.output else None]
    return min((each for each in known if each is not None), default=None)
