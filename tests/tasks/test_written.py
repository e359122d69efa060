"""Metrics of written texts are those of the libraries, and their errors are those of a bootstrap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from autopeft.errors import AutopeftError
from autopeft.tasks.metrics import NoScore
from autopeft.tasks.own import remember
from autopeft.tasks.own_metric import metric_of, own_metric
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_generation import TextGeneration
from autopeft.tasks.written import Written, WrittenMetric

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "more", "over", "there"]
TASK = TextGeneration("continuation")


def texts(count: int = 120) -> list[Written]:
    """Answers of which a few words were lost or exchanged."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(count):
        answer = random.choice(WORDS, random.integers(4, 12)).tolist()
        kept = [word if random.random() > 0.15 else str(random.choice(WORDS)) for word in answer]
        found.append(Written("w7", " ".join(answer), f" {' '.join(kept[random.integers(0, 2) :])}\n"))
    return found


def by_library(name: str, some: Sequence[Written]) -> float:
    generated, answers = [each.generated.strip() for each in some], [each.answer for each in some]
    if name == "exact_match":
        return float(np.mean([one == other for one, other in zip(generated, answers, strict=True)]))
    if name == "rouge_l":
        scorer = RougeScorer(["rougeL"])
        both = zip(answers, generated, strict=True)
        return float(np.mean([scorer.score(one, other)["rougeL"].fmeasure for one, other in both]))
    metric: Any = CHRF() if name == "chrf" else BLEU(force=True)
    return float(metric.corpus_score(generated, [answers]).score)


@pytest.mark.parametrize("metric", TASK.written, ids=lambda metric: metric.name)
def test_a_metric_is_the_librarys_and_its_error_that_of_a_bootstrap(metric: WrittenMetric) -> None:
    some = texts()
    rows = metric.count(some)
    assert metric.of(rows) == pytest.approx(by_library(metric.name, some), rel=1e-6)
    assert 0 < metric.of(rows) < (metric.ideal or 0)
    draws = np.random.default_rng(0).integers(0, len(some), (400, len(some)))
    bootstrap = np.std([metric.of(rows[draw]) for draw in draws])
    assert metric.error(rows) == pytest.approx(bootstrap, rel=0.15)
    right = metric.count([each._replace(generated=each.answer) for each in some])
    assert metric.of(right) == pytest.approx(metric.ideal)
    nothing = metric.count([each._replace(generated="") for each in some])
    assert metric.of(nothing) == 0.0


def longer(prompt: str, answer: str, generated: str) -> float:  # noqa: ARG001
    """How much longer than the answer a text is."""
    return len(generated) - len(answer)


def test_a_function_of_three_values_judges_each_text_and_its_mean_is_the_score() -> None:
    metric = metric_of(TASK, remember(longer))
    assert isinstance(metric, WrittenMetric)
    assert metric.higher_is_better
    rows = metric.count([Written("a", "b", "bcd"), Written("a", "bc", "b")])
    assert metric.of(rows) == 0.5
    assert metric.error(rows) == pytest.approx(1.5 / 2**0.5)


@pytest.mark.parametrize(
    ("told", "kind", "answer"),
    [
        (float("nan"), NoScore, "gives nan for 'bcd', which is no score"),
        ("much", AutopeftError, "must give a number for each text, not 'much'"),
        ([1, 2], AutopeftError, r"must give a number for each text, not \[1, 2\]"),
        (ValueError("no such word"), AutopeftError, "fails for 'bcd': ValueError: no such word"),
        (SystemExit(3), AutopeftError, "fails for 'bcd': SystemExit: 3"),
    ],
)
def test_what_is_no_score_is_a_sentence(told: Any, kind: type[AutopeftError], answer: str) -> None:
    def judged(prompt: str, answer: str, generated: str) -> Any:  # noqa: ARG001
        if isinstance(told, BaseException):
            raise told
        return told

    with pytest.raises(kind, match=answer):
        own_metric(judged).count([Written("a", "b", "bcd")])  # type: ignore[union-attr]


def test_what_writes_no_texts_is_not_judged_by_them() -> None:
    def of_rows(expected: Any, predicted: Any) -> float:  # noqa: ARG001
        return 0.0

    for task, name, answer in (
        (
            TextGeneration("text"),
            "chrf",
            "'chrf' judges what a model writes after prompts, and here whole texts have no",
        ),
        (TextGeneration("continuation", "all"), "bleu", "and here what is learned of rows is not their answers alone"),
        (TASK, remember(of_rows), "must take three values, a prompt, its answer, and what was generated"),
        (TextClassification(("text",), ("a", "b")), remember(longer), "must take two values, what is expected and"),
        (TASK, "rouge", "unknown metric 'rouge'. Did you mean 'rouge_l'"),
    ):
        with pytest.raises(AutopeftError, match=answer):
            metric_of(task, name)
