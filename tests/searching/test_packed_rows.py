"""Searches that train on packed rows, or learn all that is read; and plans for which neither can be had."""

from pathlib import Path
from typing import Any

import pytest
import transformers as t

import autopeft
from autopeft.backbone.load import quietly
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_generation import TextGeneration
from autopeft.trial import Status
from tests.tasks.examples import made_for


def searched(folder: Path, **more: Any) -> autopeft.Search:
    how: dict[str, Any] = {"space": "quick", "methods": "lora", "trials": 1, "workers": 0, "name": "packed"}
    places = {"storage": f"sqlite:///{folder / 'searches.db'}", "folder": str(folder / "runs")}
    return autopeft.search(model=str(folder / "model"), data=str(folder / "data"), **{**how, **places, **more})


def test_a_search_on_packed_rows_trains_confirms_and_says_how_full_they_are(tmp_path: Path) -> None:
    search = searched(made_for(TextGeneration, tmp_path), packing=True, loss_on="all", confirm=1, max_length=32)
    (trial,) = search.trials
    assert trial.status is Status.FINISHED
    assert trial.outcome is not None
    assert trial.outcome.measured is not None
    assert trial.predicted.memory == pytest.approx(trial.outcome.measured.memory, rel=0.03)
    assert [each.status for each in search.record.confirmations] == [Status.FINISHED]
    (said,) = (each for each in search.record.facts["data"] if each.startswith("packed"))
    assert said.startswith("packed: 24 examples into ")
    assert "rows of up to 32 tokens (--max-length)" in said
    assert any(each.startswith("example 1, «learned»: «") for each in search.record.facts["data"])
    assert search.record.facts["batch_length"] == 32
    loaded = autopeft.load(trial.outcome.artifact)
    assert loaded.loss({"prompt": "film good ", "completion": "bad"}) > 0


@pytest.mark.long
def test_methods_that_put_prompts_before_rows_are_left_out_with_the_reason(tmp_path: Path) -> None:
    search = searched(
        made_for(TextGeneration, tmp_path, 8, 6), packing=True, methods="lora,prompt_tuning", space="everything"
    )
    assert search.record.facts["methods"] == ["lora"]
    assert "its prompt stands before a row once" in search.record.facts["refused"]["prompt_tuning"]


def test_a_model_that_mixes_examples_is_refused(tmp_path: Path) -> None:
    made_for(TextGeneration, tmp_path, 8, 6)
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64}
    with quietly():
        t.OPTForCausalLM(t.OPTConfig(**shape, word_embed_proj_dim=32)).save_pretrained(tmp_path / "model")
    with pytest.raises(AutopeftError, match=r"does not keep several examples of one row apart: what it makes of an"):
        searched(tmp_path, packing=True)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"packing": True},
            "packing puts several examples into one row, and text-classification needs one for each text",
        ),
        ({"loss_on": "all"}, "loss_on is all, and text-classification learns a label for each text and nothing else"),
    ],
)
def test_other_tasks_have_neither(how: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match=said):
        searched(made_for(TextClassification, tmp_path), **how)


def test_a_plan_keeps_both_and_answers_slips() -> None:
    plan = Plan("m", "d", packing=True, loss_on="all")
    assert Plan.from_dict(plan.to_dict()) == plan
    assert (Plan("m", "d").packing, Plan("m", "d").loss_on) == (False, "completion")
    with pytest.raises(AutopeftError, match="loss_on must be completion or all, not 'prompt'"):
        Plan("m", "d", loss_on="prompt")
    with pytest.raises(AutopeftError, match="packing must be true or false, not 'yes'"):
        Plan("m", "d", packing="yes")  # type: ignore[arg-type]
