"""The model card as a whole text, and what it makes of names that others gave."""

from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from autopeft.artifacts.card import Facts, card
from autopeft.artifacts.description import Description
from autopeft.artifacts.usage import Form
from autopeft.space.candidate import Candidate, Part
from autopeft.tasks.base import Task
from autopeft.tasks.image_classification import ImageClassification
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_generation import TextGeneration
from autopeft.tasks.text_regression import TextRegression
from autopeft.tasks.token_classification import TokenClassification
from autopeft.trial import Trial
from tests.reports.records import of_a_loss, record

CLASSIFY = TextClassification(("sentence",), ("negative", "positive"))
EVIL = "x\n---\nlicense: mit\n# `<script>alert(1)</script>` [a](https://evil.example) ``` \x1b[2J\u202e | **b**"


def facts(form: Form = Form.PEFT, task: Task = CLASSIFY, kind: str = "", backbone: str = "org/mini") -> Facts:
    whole = record()
    whole = replace(whole, plan=replace(whole.plan, data="org/reviews"))
    trial = replace(whole.trials[0], search=whole)
    description = Description(backbone, task, 128, "ab" * 32, "c" * 40)
    return Facts(description, trial.candidate, form, kind, trial)


def read(text: str) -> huggingface_hub.ModelCard:
    """As the hub does."""
    return huggingface_hub.ModelCard(text)


def test_a_card_of_a_peft_method_as_a_whole() -> None:
    expected = Path(__file__).with_name("expected.md")
    assert card(facts()) == expected.read_text(encoding="utf-8")


def test_the_hub_reads_what_it_asks_for() -> None:
    data = read(card(facts())).data
    assert (data.library_name, data.base_model, data.pipeline_tag) == ("peft", "org/mini", "text-classification")
    assert data.tags == ["autopeft", "lora"]
    (result,) = data.eval_results
    assert (result.metric_type, result.dataset_name, result.dataset_split) == ("accuracy", "org/reviews", "validation")
    assert result.metric_value == pytest.approx(record().trials[0].score, abs=1e-6)


@pytest.mark.parametrize("form", Form)
def test_what_others_named_means_nothing_in_a_card(form: Form) -> None:
    plain = facts(form)
    assert plain.trial is not None
    assert plain.trial.search is not None
    task = TextClassification(("sentence",), (EVIL, "good"))
    candidate = Candidate(EVIL, (Part(EVIL, {EVIL: EVIL}),))
    whole = plain.trial.search
    whole = replace(
        whole,
        name=EVIL,
        plan=replace(whole.plan, data=EVIL, model=EVIL),
        metric=replace(whole.metric, name=EVIL, heading=EVIL),
        baselines={EVIL: next(iter(whole.baselines.values()))},
    )
    trial = replace(plain.trial, search=whole)
    text = card(Facts(Description(EVIL, task, 128), candidate, form, trial=trial))
    assert read(text).data.to_dict().keys() <= {"library_name", "pipeline_tag", "tags"}
    assert not {"\x1b", "\u202e"} & {*text}
    body = text.split("\n---\n")[1:]
    assert len(body) == 1
    # Headings are ours, blocks are closed, and there is no link and no tag outside of code.
    assert [line for line in body[0].splitlines() if line.startswith("# ")] == [body[0].strip().splitlines()[0]]
    assert sum(line.startswith("```") for line in body[0].splitlines()) % 2 == 0
    outside = [line for line in body[0].splitlines() if "`" not in line]
    assert not any(sign in line for line in outside for sign in ("<script>", "](", "https:"))


def test_a_card_does_not_tell_where_files_lie_on_somebodys_machine() -> None:
    plain = facts(backbone="/home/ann/secret/mini")
    assert plain.trial is not None
    whole = record()
    trial = replace(plain.trial, search=replace(whole, plan=replace(whole.plan, data="/home/ann/secret/reviews.csv")))
    for form in Form:
        text = card(replace(plain, form=form, trial=trial))
        assert "/ann" not in text
        assert "`mini`" in text
        assert "`reviews.csv`" in text
        assert {"base_model", "datasets", "model-index"}.isdisjoint(read(text).data.to_dict())


def test_less_is_better_where_it_is() -> None:
    plain, whole = facts(), of_a_loss()
    text = card(replace(plain, trial=replace(whole.trials[0], search=whole)))
    assert "- cross-entropy on validation data (872 rows): 12.78 ± 0.40; less is better" in text


def test_a_method_that_no_search_trained_has_a_card_without_scores() -> None:
    text = card(Facts(Description("mini", CLASSIFY, 128), Candidate("lora", (Part("lora"),)), Form.METHOD))
    assert "## Scores" not in text
    assert "- classes: `negative`, `positive`" in text


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(
    "task",
    [
        CLASSIFY,
        TextClassification(("one", "other"), ("no", "yes")),
        TextRegression(("text",), 3.0, 2.0),
        TokenClassification(("O", "B-X")),
        ImageClassification(("cat", "dog")),
        TextGeneration("conversation"),
    ],
)
def test_the_lines_that_load_a_folder_are_python(form: Form, task: Task) -> None:
    blocks = card(facts(form, task, "BertForTokenClassification")).split("```python\n")[1:]
    assert blocks
    for block in blocks:
        compile(block.split("```")[0], "card", "exec")


def test_front_matter_is_no_place_for_a_search_that_is_none(tmp_path: Path) -> None:
    trial: Trial = replace(record().trials[0], search=None)
    data = read(card(replace(facts(), trial=trial, description=Description(str(tmp_path), CLASSIFY, 8)))).data
    assert data.to_dict() == {
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["autopeft", "lora"],
    }
