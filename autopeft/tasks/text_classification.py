"""Text classification: single texts or pairs into two or more classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import pandas as pd

from autopeft.data.columns import CATEGORY, LABELS, Columns, Role
from autopeft.tasks.metrics import ACCURACY, F1_MACRO, F1_MICRO, F1_WEIGHTED, MATTHEWS
from autopeft.tasks.one_class import OneClass
from autopeft.tasks.texts import ROLE, TextTask


@dataclass(frozen=True)
class TextClassification(OneClass, TextTask):
    """One of several classes for each text."""

    classes: tuple[str, ...]
    """In the order of the outputs."""

    name: ClassVar = "text-classification"
    aliases: ClassVar = ("SEQ_CLS", "single_label_classification")
    roles: ClassVar = {"label": Role(CATEGORY, LABELS), "text": ROLE}
    metrics: ClassVar = (ACCURACY, F1_MACRO, F1_MICRO, F1_WEIGHTED, MATTHEWS)

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        classes, notes = cls.named(frame, columns)
        return cls(columns["text"], classes), notes

    @classmethod
    def sized(cls, labels: int) -> Self:
        return cls(("text",), tuple(map(str, range(labels))))
