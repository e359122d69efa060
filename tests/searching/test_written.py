"""A whole search that is judged by what models write: at rungs, at the end, beside prompting, and in its report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autopeft
from autopeft.data.store import LABELS, Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.reports import render
from autopeft.searching.preparing.asked import affordable
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.text_generation import TextGeneration
from autopeft.tasks.texts import IDS
from autopeft.training import asking
from autopeft.training.asking import Questions, chosen
from autopeft.trial import Status
from tests.tasks.examples import made_for

WORDS = ("bad", "fair", "good")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Rows whose completions are a word that the prompt holds; four prompts are asked at rungs, and eight at most."""

    monkeypatch.setattr("autopeft.searching.sitting.SPARE", 600.0)
    for module in (asking, autopeft.searching.preparing.asked):
        monkeypatch.setattr(module, "AT_RUNGS", 4)
        monkeypatch.setattr(module, "AT_THE_END", 8)
    # Trainings are too short here for more.
    monkeypatch.setattr(autopeft.searching.preparing.asked, "SHARE", 1e9)
    folder = made_for(TextGeneration, tmp_path)
    for split, count in (("train", 48), ("validation", 12)):
        rows = [{"prompt": f"film {WORDS[n % 3]} w{n % 7} ", "completion": WORDS[n % 3]} for n in range(count)]
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": str(folder / "model"),
        "data": str(folder / "data"),
        "space": "quick",
        "workers": 0,
        "sampler": "random",
        "storage": f"sqlite:///{folder / 'searches.db'}",
        "folder": str(folder / "runs"),
    }


def test_one_metric_is_on_one_curve_few_prompts_at_rungs_and_more_at_the_end(place: Mapping[str, Any]) -> None:
    search = autopeft.search(**place, metric="chrf", methods="lora", trials=1, keep="all", confirm=1)
    record = search.record
    assert (record.metric.name, record.metric.higher_is_better, record.metric.ideal) == ("chrf", True, 100.0)
    assert {trial.status for trial in record.trials} == {Status.FINISHED}
    assert record.facts["asked"] == 8
    before = record.baselines["backbone as it is"]
    assert before.answers is not None
    assert before.answers.rows == 8
    for trial in record.trials:
        assert trial.outcome is not None
        assert trial.outcome.answers is not None
        assert trial.outcome.answers.rows == 8
        assert all(0 <= rung.score <= 100 and rung.others["loss"] > 0 for rung in trial.curve)
        written = trial.outcome.facts["written"]
        assert len(written) == 5
        assert [each["prompt"] for each in written] == [each["prompt"] for each in before.written]
    assert [each.validation.rows for each in record.confirmations if each.validation] == [8] * len(search.front)
    one = record.baselines["backbone with 1 example in its prompt"]
    assert one.rows == tuple(range(8)), "which are numbers of prompts, in their order"
    lora = next(trial for trial in search.trials if trial.candidate.name == "lora")
    asked = lora.outcome.facts["written"]
    loaded = autopeft.load(lora.outcome.artifact)
    found = loaded.generate([f"{each['prompt']} " for each in asked], max_new_tokens=8)
    assert [text.strip().split()[:2] for text in found] == [each["generated"].split()[:2] for each in asked]
    page, said = render(record, "html"), " ".join(render(record, "terminal").split())
    for shown in (f"Written by trial {search.front[0].number}, the best", "Written by the "):
        assert shown in said
        assert shown in page
    assert "Loss per token on all validation rows, beside chrF: trial" in said
    assert json.loads(render(record, "json"))["baselines"]["backbone as it is"]["written"][0]["answer"] in WORDS


def lucky(prompt: str, answer: str, generated: str) -> float:  # noqa: ARG001
    """Has no value for what was learned."""
    return float("nan") if generated == answer else 0.0


def broken(prompt: str, answer: str, generated: str) -> float:
    raise ValueError(f"no such word: {prompt}{answer}{generated}")


def test_a_function_that_has_no_number_is_a_sentence_and_costs_nothing_else(place: Mapping[str, Any]) -> None:
    with pytest.raises(AutopeftError, match=r"the metric '.*broken' fails for '.*': ValueError: no such word: film"):
        autopeft.search(**place, metric=broken, methods="lora", trials=1)
    search = autopeft.search(**place, metric=lucky, methods="lora", trials=1)
    (trial,) = search.trials
    if trial.status is Status.FAILED:
        assert "gives nan for 'bad'" in trial.outcome.reason or "which is no score" in trial.outcome.reason
    else:
        assert trial.score == 0.0


def test_more_prompts_are_asked_where_a_training_takes_longer() -> None:
    table: list[tuple[int, float, float, tuple[int, int]]] = [
        (900, 0.1, 1e9, (64, 500)),
        (900, 0.1, 100.0, (64, 122)),
        (900, 0.1, 40.0, (33, 34)),
        (900, 0.1, 1.0, (16, 16)),
        (40, 0.1, 1.0, (16, 16)),
        (10, 0.1, 100.0, (10, 10)),
        (70, 1.0, float("inf"), (64, 70)),
    ]
    for rows, pace, training, expected in table:
        found = affordable(rows, pace, training)
        assert found == expected
        least = 3 * min(16, rows) * pace
        assert (2 * found.at_rungs + found.at_the_end) * pace <= max(0.25 * training, least)


class _Words:
    """Token 9 is a blank."""

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(" " if each == 9 else f"w{each}" for each in ids)


def test_rows_without_a_whole_answer_are_not_asked_and_the_last_answer_is() -> None:
    none = NO_LABEL
    rows = [
        ([1, 2, 3, 4], [none, none, 3, 4]),
        ([1, 2, 9], [none, none, 9]),  # Nothing is expected.
        ([1, 2, 3, 4, 5, 6], [none, none, none, none, 5, 6]),  # Cut short.
        ([1, 2, 3, 4, 5], [none, 2, none, none, 5]),  # Two turns.
        ([1, 2], [1, 2]),  # No prompt.
    ]
    ids, labels = (Column.ragged([row[at] for row in rows], np.int32) for at in (0, 1))
    data, task = Dataset({IDS: ids, LABELS: labels}, 6), TextGeneration("continuation")
    found = chosen(data, _Words(), task, 10)
    assert {*found.tolist()} == {0, 3}
    questions = Questions.of(data.taken(np.array([0, 3])), _Words(), task)
    assert questions == Questions(((1, 2), (1, 2, 3, 4)), (("w1w2", "w3w4"), ("w1w2w3w4", "w5")), 2)
    with pytest.raises(AutopeftError, match="each is empty, or cut short after 6 tokens"):
        chosen(data.taken(np.array([1, 2, 4])), _Words(), task, 10)
