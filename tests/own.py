"""A task and metrics of a user's own, as files that he wrote somewhere; the task fits no other than its own."""

TASK = '''
"""How good and how long a text is: two numbers at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from autopeft.data.columns import NUMBER, Role
from autopeft.data.numbers import number_in
from autopeft.tasks.heads import LinearHead
from autopeft.tasks.linear_probe import fit_numbers
from autopeft.tasks.metrics import Metric
from autopeft.tasks.texts import ROLE, TextTask

print("executed")


def numbers_in(frame, columns):
    """(rows, 2), not numbers where cells hold none."""
    return frame[[*columns["numbers"]]].map(number_in).to_numpy(np.float64)


class TwoNumbersHead(LinearHead):
    def loss(self, output, batch):
        return functional.mse_loss(output, batch["labels"], reduction="sum")

    def statistics(self, output, batch):
        wrong = (output - batch["labels"]).cpu().double().numpy()
        return np.column_stack([np.ones(len(wrong)), wrong**2])

    def divergence(self, one, other, batch):
        return (one - other).square().sum() / 2


@dataclass(frozen=True)
class TwoNumbers(TextTask):
    """Two numbers for each text."""

    means: tuple[float, ...]

    name: ClassVar = "two-numbers"
    roles: ClassVar = {"numbers": Role(NUMBER, ("numbers",), (("quality", "length"),), most=2), "text": ROLE}
    metrics: ClassVar = (
        Metric("worst", "worse of both errors", lambda sums: float(max(sums[1:]) / sums[0]), False, ideal=0.0),
        Metric("mse", "squared error", lambda sums: float(sum(sums[1:]) / sums[0]), False, ideal=0.0),
    )
    constant: ClassVar = "both means"
    label_shape: ClassVar = (torch.float32, (2,))

    @classmethod
    def sized(cls, labels):
        return cls(("text",), (0.0, 0.0))

    @classmethod
    def understand(cls, frame, columns):
        return cls(columns["text"], tuple(map(float, numbers_in(frame, columns).mean(0)))), []

    def targets(self, frame, columns, split):
        return (numbers_in(frame, columns) - self.means).astype(np.float32)

    def known(self, frame, columns):
        return pd.Series(np.isfinite(numbers_in(frame, columns)).all(1), frame.index)

    def described(self, train):
        return ("two numbers",)

    def new_head(self, width, training):
        return TwoNumbersHead(width, 2, training.pooling)

    def best_constant(self, train):
        return torch.zeros(2)

    def fit(self, head, features, targets):
        fit_numbers(head, features, targets)

    def answers(self, output, inputs):
        return [tuple(one + mean for one, mean in zip(row, self.means)) for row in output.tolist()]

    def compared(self, output, batch):
        return self.answers(batch["labels"], ()), self.answers(output, ())
'''

METRICS = '''
import numpy as np

print("executed")


def share(expected, predicted):
    return np.mean(expected == predicted)


def right(expected, predicted):
    return expected == predicted


def far(expected, predicted):
    """The furthest that the first number lies off."""
    return max(abs(one[0] - other[0]) for one, other in zip(expected, predicted))


far.greater_is_better = False


def nothing(expected, predicted):
    return None


def short(expected, predicted):
    return [1.0, 2.0]


def nan(expected, predicted):
    return float("nan")


def text(expected, predicted):
    return "0.5"


def failing(expected, predicted):
    return expected.undefined


def one(expected):
    return 1.0


def memory(expected, predicted):
    return 1.0
'''
