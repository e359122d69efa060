"""A metric of a user's own: a function of what is expected and what is predicted, for all rows of a split at once.

It returns one number, or one for each row, whose mean is the score. Of one number the error comes by bootstrap, always
of the same draws, and so does what each row is worth: how the score follows the number of times that the row was drawn
(B. Efron, JASA 109, 2014), in such units that their spread is the error. As the draws are the same for all models, the
difference of two has the error of a paired bootstrap.
"""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.objectives import COSTS
from autopeft.tasks import own
from autopeft.tasks.base import Task
from autopeft.tasks.heads import Batch
from autopeft.tasks.metrics import MOST_SCORE, Array, Metric, NoScore
from autopeft.tasks.own_slips import is_signal
from autopeft.tasks.patience import Hangs, in_time
from autopeft.tasks.written import OwnWritten, mean

DIRECTION = "greater_is_better"
"""The function's attribute that says whether, called as scikit-learn and transformers do."""
LESS_IS_BETTER = (
    *("error", "loss", "logloss", "deviance", "nll", "perplexity", "ppl"),
    *("mse", "rmse", "msle", "rmsle", "mae", "mape", "wer", "cer"),
)
"""The last words in names of functions that are better where they are less, as in scikit-learn, if they do not say it.
"""
_TURNED = ("neg", "negative")
"""The first words of those that are turned round, so that more is better."""
DRAWS = 200
"""How often the function is called for an error."""
MOST_DRAWN = 5_000
"""Rows that it is called with then, at most; the error of more follows from theirs."""
_TWO = "two values, what is expected and what is predicted"
_ROUNDING = 1e-9
"""A direction of draws that is a smaller part of the largest is none."""


@dataclass(frozen=True)
class OwnMetric(Metric):
    """`value` is the user's function."""

    of_answers: ClassVar = True

    def of(self, rows: Array) -> float:
        return float(np.mean(self._told(*_columns(rows))))

    def values(self, rows: Array) -> Array:
        expected, predicted = _columns(rows)
        told = self._told(expected, predicted)
        if told.ndim:
            return told
        draws, scores = self._drawn(expected, predicted)
        if len(scores) < DRAWS / 2:
            return np.full(len(rows), np.nan)
        error = float(np.std(scores, ddof=1) * np.sqrt(len(draws[0]) / len(rows)))
        follows = _followed(draws, scores - scores.mean(), len(rows))
        spread = float(np.std(follows))
        follows *= error * np.sqrt(len(rows)) / spread if spread > 0 else 0.0
        values: Array = float(told) + follows - follows.mean()
        return values

    def _drawn(self, expected: Any, predicted: Any) -> tuple[list[np.ndarray], Array]:
        """The rows of each draw, and (draws,) the scores; without draws that have none."""
        random, count = np.random.default_rng(0), len(expected)
        draws, scores = [], []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(DRAWS):
                drawn = random.integers(0, count, min(count, MOST_DRAWN))
                try:
                    scores.append(float(self._told(_taken(expected, drawn), _taken(predicted, drawn))))
                except Hangs:
                    raise
                except AutopeftError:  # A class may be missing among these rows, say.
                    continue
                draws.append(drawn)
        return draws, np.array(scores)

    def _told(self, expected: Any, predicted: Any) -> Array:
        """What the function returns, () or (rows,). Raises AutopeftError for what is no score."""
        try:
            function: Any = self.value
            told: Any = in_time(partial(function, _copied(expected), _copied(predicted)), f"the metric '{self.shown}'")
        except Hangs:
            raise
        except BaseException as error:  # Also one that would end the program, such as SystemExit.
            if is_signal(error):
                raise
            said = f"{type(error).__name__}: {brief(str(error), 200)[1:-1]}"
            raise AutopeftError(f"the metric '{self.shown}' fails: {said}.") from error
        try:
            found = np.asarray(told)
        except Exception:
            found = np.empty(0, dtype=object)
        if found.dtype.kind not in "biuf":
            raise AutopeftError(
                f"the metric '{self.shown}' must give a number, or one for each row, not {brief(told)}."
            )
        if found.shape not in ((), (len(expected),)):
            raise AutopeftError(
                f"the metric '{self.shown}' must give one number, or {len(expected):,}, one for each row, not "
                f"an array of shape {found.shape}."
            )
        if not np.isfinite(found).all():
            raise NoScore(f"the metric '{self.shown}' gives {brief(told)}, which is no score.")
        if (np.abs(found) > MOST_SCORE).any():
            raise NoScore(
                f"the metric '{self.shown}' gives {brief(told)}, which is too large for a score; give it in other "
                "units, or its logarithm."
            )
        return found.astype(np.float64)

    @property
    def shown(self) -> str:
        """The name of its file and its own."""
        return own.shown(self.value)


def metric_of(task: Task, name: str) -> Metric:
    """A task's metric by its name, or the one of one's own of this reference. Raises AutopeftError, also for one that
    is called like a metric of the task: both are shown.
    """
    if not own.is_own(name):
        found = task.metric(name)
        _require_written(task, found)
        return found
    metric = own_metric(own.known(name, "metric"))
    if metric.of_texts != bool(task.written):
        takes = "three values, a prompt, its answer, and what was generated" if task.written else _TWO
        raise AutopeftError(f"of a task '{task.name}' the metric '{metric.shown}' must take {takes}.")
    _require_written(task, metric)
    if any(metric.name == each.name for each in task.every_metric()):
        raise AutopeftError(
            f"the metric '{metric.shown}' cannot be called '{metric.name}', as a metric of {task.name} is, which is "
            "kept beside it; give it another name."
        )
    return metric


def _require_written(task: Task, metric: Metric) -> None:
    if metric.of_texts and (why := task.why_not_written):
        raise AutopeftError(f"'{metric.name}' judges what a model writes after prompts, and here {why}.")


def own_metric(function: Any) -> OwnMetric | OwnWritten:
    """A user's function as a metric: of two values for all rows, or of three for each text that a model writes. Raises
    AutopeftError for what can be none.
    """
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or not name.isidentifier():
        raise AutopeftError(
            f"a metric is a function with a name, of expected and predicted values, not {own.told(function)}."
        )
    if name in COSTS:
        raise AutopeftError(f"a metric cannot be called '{name}', which is a cost; give it another name.")
    of_rows = _takes(function, 2)
    if not of_rows and not _takes(function, 3):
        raise AutopeftError(f"the metric '{own.shown(function)}' must take {_TWO}.")
    words = name.lower().split("_")
    higher = getattr(function, DIRECTION, words[-1] not in LESS_IS_BETTER or words[0] in _TURNED)
    if not isinstance(higher, bool):
        raise AutopeftError(f"{name}.{DIRECTION} must be True or False, not {brief(higher)}.")
    if not of_rows:
        return OwnWritten(name, name, mean, higher, ideal=None, function=function)
    return OwnMetric(name, name, function, higher, ideal=None)


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*[()] * count)
    except TypeError:
        return False
    return True


def answered(task: Task) -> Callable[[Tensor, Batch], Array]:
    """Gives (rows, 2) of an output: what is expected of each row and what is answered, whatever they are."""

    def pairs(output: Tensor, batch: Batch) -> Array:
        found, told = np.empty((len(output), 2), dtype=object), task.compared(output, batch)
        if [*map(len, told)] != [len(output)] * 2:
            raise AutopeftError(
                f"the task '{own.shown(type(task))}' must tell of {len(output):,} rows what each expects and what is "
                f"answered, but its method compared tells {' and '.join(f'{len(each):,}' for each in told)}."
            )
        for row, both in enumerate(zip(*told, strict=True)):
            found[row, 0], found[row, 1] = both
        return found

    return pairs


def _followed(draws: Sequence[np.ndarray], scores: Array, count: int) -> Array:
    """(rows,) how centred scores follow the times that each row is drawn. The draws are made orthogonal first, so that
    the products of two models' are those of their scores, whatever functions of the rows these are.
    """
    from scipy.sparse import csr_array  # takes long, and other metrics need none

    which = np.repeat(np.arange(len(draws)), [len(each) for each in draws])
    rows = np.concatenate(draws)
    times = csr_array((np.ones(len(rows)), (which, rows)), shape=(len(draws), count))
    products = (times @ times.T).toarray()
    products += products.mean() - products.mean(0) - products.mean(0)[:, None]
    sizes, directions = np.linalg.eigh(products)
    some = sizes > _ROUNDING * sizes.max()
    weights = directions[:, some] @ ((scores @ directions[:, some]) / np.sqrt(sizes[some]))
    found: Array = times.T @ weights
    return found


def _columns(rows: Array) -> tuple[Any, Any]:
    """Expected and predicted: arrays of numbers or of words, lists of what holds several."""
    expected, predicted = (column.tolist() for column in rows.T)
    single = all(isinstance(each, str | int | float) for each in (*expected, *predicted))
    return (np.array(expected), np.array(predicted)) if single else (expected, predicted)


def _copied(values: Any) -> Any:
    """What a function may change, as by sorting, without changing what it is called with next."""
    if isinstance(values, list):
        return [_copied(each) for each in values]
    return values.copy() if isinstance(values, dict | set | np.ndarray) else values


def _taken(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
