"""Whether fine-tuning beats prompting is the first thing that a report on a language model says, with its error."""

import json
from dataclasses import replace

import numpy as np
import pytest

from autopeft.reports import render
from autopeft.reports.findings import find
from autopeft.reports.format.terminal import text
from autopeft.reports.prompting import answer, labelled
from autopeft.trial import Answers, Baseline, SearchRecord
from tests.reports.records import of_a_loss

ROWS = np.random.default_rng(0).normal(2.0, 0.5, 200)
"""What rows are worth to the trials: losses."""
ASKED = tuple(range(0, 200, 2))


def prompted(better_by: float, noise: float = 0.1, alone_by: float = 1.0) -> SearchRecord:
    """A search whose trials are better than prompting by so much, row by row and on average."""
    lossy = of_a_loss()
    rows = ROWS - ROWS.mean() + lossy.trials[3].curve[-1].score

    def baseline(by: float, places: tuple[int, ...] | None, tokens: float) -> Baseline:
        some = rows if places is None else rows[[*places]]
        off = np.random.default_rng(1).normal(0, noise, len(some))
        values = some + by + off - off.mean()
        answers = Answers.of(float(values.mean()), values)
        return Baseline(answers.score, answers.error, 2.0, answers, places, tokens, 3 if places else 0)

    trials = tuple(
        replace(each, outcome=replace(each.outcome, answers=Answers.of(float(rows.mean()), rows)))
        if each.number == 4 and each.outcome
        else each
        for each in lossy.trials
    )
    baselines = {
        "backbone as it is": baseline(alone_by, None, 0.0),
        "backbone with 4 examples in its prompt": baseline(better_by, ASKED, 212.4),
    }
    return replace(lossy, trials=trials, baselines=baselines, confirmations=())


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (0.5, "Fine-tuning beats prompting: trial 4 has 0.5000 ± 0.0085 less cross-entropy than the backbone with 4"),
        (
            0.01,
            "Fine-tuning does not beat prompting by more than chance: trial 4 has 0.0100 ± 0.0085 less cross-entropy",
        ),
        (-0.5, "Prompting beats fine-tuning: trial 4 has 0.5000 ± 0.0085 more cross-entropy than the backbone with 4"),
    ],
)
def test_a_report_begins_with_whether_fine_tuning_beats_prompting(by: float, said: str) -> None:
    record = prompted(by)
    found = answer(record, find(record))
    assert found.startswith(said)
    assert found.endswith("examples in its prompt (212 tokens more per answer), on the same 100 rows.")
    assert text(record, 300, coloured=False).startswith(found)
    page = " ".join(render(record, "html").split())
    assert f'<p class="answer">{found}' in page


def test_prompting_is_whatever_of_it_does_best() -> None:
    record = prompted(1.5, alone_by=0.5)
    said = answer(record, find(record))
    assert "0.5000 ± 0.0065 less cross-entropy than the backbone as it is, on the same 200 rows." in said


def test_before_examples_were_tried_that_is_said() -> None:
    whole = prompted(0.5)
    record = replace(whole, baselines={"backbone as it is": whole.baselines["backbone as it is"]})
    assert answer(record, find(record)).endswith("on the same 200 rows; prompts with examples were not tried.")


def test_without_a_language_model_or_a_front_nothing_is_said() -> None:
    assert answer(of_a_loss(), find(of_a_loss())) == ""
    record = replace(prompted(0.5), trials=())
    assert answer(record, find(record)) == ""
    assert "backbone with 4 examples in its prompt (212 tokens more per answer, 100 rows, 3 left out)" in text(
        record, 300, coloured=False
    )


def test_a_trial_of_whose_rows_nothing_is_known_is_compared_as_if_it_had_rows_of_its_own() -> None:
    whole = prompted(0.5)
    record = replace(
        whole,
        trials=tuple(
            replace(each, outcome=each.outcome and replace(each.outcome, answers=None)) for each in whole.trials
        ),
    )
    assert "Fine-tuning does not beat prompting" in answer(record, find(record))
    assert answer(record, find(record)).endswith("on validation data.")


def test_nothing_is_recommended_that_does_not_beat_prompting() -> None:
    assert find(prompted(0.01)).better == ()
    assert find(prompted(0.5)).better[0].number == 4
    assert find(prompted(0.01)).baseline is not None


def test_tables_tell_what_examples_cost_and_programs_read_it() -> None:
    record = prompted(0.5)
    name, each = "backbone with 4 examples in its prompt", record.baselines["backbone with 4 examples in its prompt"]
    assert labelled(name, each) in text(record, 300, coloured=False)
    assert labelled(name, each) in render(record, "html")
    plain = json.loads(render(record, "json"))
    told = plain["baselines"][name]
    assert (told["tokens"], told["left_out"], len(told["rows"])) == (212.4, 3, 100)
    assert plain["prompting"] | {"by": 0, "error": 0} == {
        "trial": 4,
        "baseline": name,
        "by": 0,
        "error": 0,
        "is_sure": True,
        "rows": 100,
    }
    assert plain["prompting"]["by"] == pytest.approx(0.5, abs=1e-4)


def test_the_reference_of_a_front_is_not_moved_by_baselines_of_some_rows() -> None:
    record = prompted(3.0)
    assert record.trivial == record.baselines["backbone as it is"].score


def test_a_report_says_from_how_many_answers_on_a_training_is_cheaper_than_examples_in_prompts() -> None:
    record = prompted(0.5)
    alone, examples = "backbone as it is", "backbone with 4 examples in its prompt"

    def told(of_alone: float | None, of_examples: float | None, **facts: float) -> str:
        paces = {alone: of_alone, examples: of_examples}
        baselines = {name: replace(each, pace=paces[name]) for name, each in record.baselines.items()}
        trials = tuple(
            replace(each, outcome=replace(each.outcome, seconds=100.0, facts={**each.outcome.facts, **facts}))
            if each.outcome
            else each
            for each in record.trials
        )
        changed = replace(record, baselines=baselines, trials=trials)
        return answer(changed, find(changed))

    merged = {"latency": 1.0, "latency_bare": 1.0}
    assert told(0.25, 0.75, **merged).endswith("as the examples in some 200 prompts, and is cheaper from there on.")
    assert "some 400 prompts" in told(0.25, 0.75, latency=2.0, latency_bare=1.0)
    for known in (told(0.5, 0.5, **merged), told(None, 0.5, **merged), told(0.5, None, **merged)):
        assert "cheaper" not in known
