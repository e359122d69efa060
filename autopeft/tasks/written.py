"""Metrics of texts that a model writes, beside the answers that are expected.

Each is a function of sums over rows, so that its standard error is exact: n-grams that match, as sacrebleu counts them
(BLEU: Papineni et al., ACL 2002; chrF: Popović, WMT 2015), or what every text is worth (ROUGE-L: Lin 2004, by
rouge-score). Texts are compared without blanks around them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.tasks import own
from autopeft.tasks.metrics import MOST_SCORE, Array, Metric, NoScore
from autopeft.tasks.own_slips import is_signal
from autopeft.tasks.patience import Hangs, in_time

_ORDER = 4
"""Words of BLEU's longest n-grams."""


class Written(NamedTuple):
    """What a model was asked, and what it wrote."""

    prompt: str
    answer: str
    """What was expected."""
    generated: str


def _none(texts: Sequence[Written]) -> Array:
    raise NotImplementedError("each metric says what it counts")


@dataclass(frozen=True)
class WrittenMetric(Metric):
    """One number that says how good written texts are."""

    of_rows: Callable[[Sequence[Written]], Array] = field(default=_none, repr=False)
    """(rows, k) of texts, of whose sums the score is a function."""

    of_texts: ClassVar = True

    def count(self, texts: Sequence[Written]) -> Array:
        """(rows, k) statistics. Raises AutopeftError."""
        return self.of_rows(texts)


@dataclass(frozen=True)
class OwnWritten(WrittenMetric):
    """A user's function of (prompt, answer, generated) that returns a number, whose mean is the score."""

    function: Any = field(default=None, repr=False)

    def count(self, texts: Sequence[Written]) -> Array:
        return _with_ones([self._told(*each) for each in texts])

    @property
    def shown(self) -> str:
        """The name of its file and its own."""
        return own.shown(self.function)

    def _told(self, prompt: str, answer: str, generated: str) -> float:
        try:
            of_texts = f"the metric '{self.shown}' of {brief(generated)}"
            told: Any = in_time(partial(self.function, prompt, answer, generated), of_texts)
            found = np.asarray(told)
        except Hangs:
            raise
        except BaseException as error:  # Also one that would end the program, such as SystemExit.
            if is_signal(error):
                raise
            said = f"{type(error).__name__}: {brief(str(error), 200)[1:-1]}"
            raise AutopeftError(f"the metric '{self.shown}' fails for {brief(generated)}: {said}.") from error
        if found.shape != () or found.dtype.kind not in "biuf":
            raise AutopeftError(f"the metric '{self.shown}' must give a number for each text, not {brief(told)}.")
        if not abs(float(found)) <= MOST_SCORE:
            raise NoScore(f"the metric '{self.shown}' gives {brief(told)} for {brief(generated)}, which is no score.")
        return float(found)


def _with_ones(values: Sequence[float]) -> Array:
    """(rows, 2) so that a mean is a function of sums."""
    return np.stack([np.ones(len(values)), np.array(values, dtype=np.float64)], axis=1)


def mean(sums: Array) -> float:
    """Of what each text is worth."""
    return float(sums[1] / sums[0])


def _exact(texts: Sequence[Written]) -> Array:
    return _with_ones([float(each.generated.strip() == each.answer.strip()) for each in texts])


def _rouge(texts: Sequence[Written]) -> Array:
    scorer = _scorer()
    return _with_ones([scorer.score(each.answer, each.generated)["rougeL"].fmeasure for each in texts])


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # takes a second

    return RougeScorer(["rougeL"])


@cache
def _counter(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # takes half a second
    from sacrebleu.metrics.chrf import CHRF

    # Texts that end in a blank and a full stop are no mistake here.
    return CHRF() if name == "chrf" else BLEU(force=True)


def _chrf_counts(texts: Sequence[Written]) -> Array:
    return _counted("chrf", texts)


def _bleu_counts(texts: Sequence[Written]) -> Array:
    return _counted("bleu", texts)


def _counted(name: str, texts: Sequence[Written]) -> Array:
    """As sacrebleu counts for its own errors."""
    generated, answers = [each.generated.strip() for each in texts], [each.answer.strip() for each in texts]
    return np.array(_counter(name)._extract_corpus_statistics(generated, [answers]), dtype=np.float64)


def _chrf(sums: Array) -> float:
    return float(_counter("chrf")._compute_score_from_stats(sums.tolist()).score)


def _bleu(sums: Array) -> float:
    """The penalty for brevity is taken here, because sacrebleu takes whole lengths only: those do not move smoothly."""
    written, expected, *counts = sums.tolist()
    found = _counter("bleu").compute_bleu(counts[:_ORDER], counts[_ORDER:], 1, 1, max_ngram_order=_ORDER)
    brevity = math.exp(1 - expected / written) if 0 < written < expected else 1.0
    return float(found.score) * brevity


EXACT_MATCH = WrittenMetric("exact_match", "exact match", mean, of_rows=_exact)
ROUGE_L = WrittenMetric("rouge_l", "ROUGE-L", mean, of_rows=_rouge)
CHRF = WrittenMetric("chrf", "chrF", _chrf, ideal=100.0, of_rows=_chrf_counts)
BLEU = WrittenMetric("bleu", "BLEU", _bleu, ideal=100.0, of_rows=_bleu_counts)
