"""Whole searches on models that are not as the tiny BERT is: mixtures of experts, few positions, code of their own."""

import csv
from pathlib import Path

import pytest
import torch
import transformers as t

import autopeft
from autopeft.backbone.load import quietly
from autopeft.errors import AutopeftError
from autopeft.trial import Status
from tests.backbone.architectures import EXPERTS
from tests.backbone.test_source import marker, with_code  # noqa: F401 - a fixture
from tests.searching.test_search import options
from tests.user import user_folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return user_folder(tmp_path / "user")


def put_model(place: Path, config: t.PretrainedConfig) -> None:
    """In place of the BERT; the tokenizer stays."""
    with quietly(), torch.random.fork_rng():
        torch.manual_seed(0)
        t.AutoModel.from_config(config).save_pretrained(place / "model")


@pytest.mark.parametrize(
    "experts", [pytest.param(each, marks=pytest.mark.grid if each == "mixtral" else ()) for each in EXPERTS]
)
def test_a_mixture_of_experts_is_searched_at_the_costs_that_were_predicted(place: Path, experts: str) -> None:
    put_model(place, EXPERTS[experts]())
    search = autopeft.search(**options(place, name="experts", trials=2, methods="lora,prompt_tuning"))
    assert {trial.status for trial in search.trials} == {Status.FINISHED}
    for trial in search.trials:
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.outcome.measured.memory == pytest.approx(trial.predicted.memory, rel=0.03)
        assert trial.outcome.measured.flops == pytest.approx(trial.predicted.flops, rel=0.01)
    search.export(search.trials[0].number, place / "winner")
    assert set(autopeft.load(place / "winner").predict(["the film was good"])) <= {"positive", "negative"}


def split_with_long_texts(place: Path, words: int) -> Path:
    """Validation and test hold a text that is longer than those of training."""
    with (place / "reviews.csv").open() as stream:
        rows = list(csv.reader(stream))
    folder = place / "reviews"
    folder.mkdir()
    long = ["the film was good " * (words // 4), "positive"]
    for name, part in {"train": rows[1:81], "validation": [*rows[81:111], long], "test": [*rows[111:], long]}.items():
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([rows[0], *part])
    return folder


def test_texts_that_are_longer_than_the_positions_are_cut_and_the_search_says_so(place: Path) -> None:
    data = str(split_with_long_texts(place, 100))
    given = options(place, data=data, max_length=128, trials=2, name="long", methods="lora,adapter", confirm=1)
    search = autopeft.search(**given)
    assert {trial.status for trial in search.trials} == {Status.FINISHED}
    assert "texts are cut after 64 tokens, not 128: the model has no more positions" in search.record.facts["data"]
    search.export(search.front[0].number, place / "winner")
    winner = autopeft.load(place / "winner")
    assert winner.logits(["the film was good " * 50]).isfinite().all()
    assert winner.description.max_length == 64


def test_prompts_that_leave_no_room_for_the_longest_validation_text_are_refused(place: Path) -> None:
    data = str(split_with_long_texts(place, 100))
    given = options(place, data=data, max_length=64, trials=1, name="prompts", methods="lora,prompt_tuning")
    refused = autopeft.search(**given).record.facts["refused"]
    assert refused.keys() == {"prompt_tuning"}
    assert "more than the 64 positions of BertModel" in refused["prompt_tuning"]


def test_a_search_runs_code_that_comes_with_the_model_only_where_the_plan_trusts_it(
    place: Path,
    marker: Path,  # noqa: F811
) -> None:
    with_code(place / "model", marker)
    given = options(place, trials=1, name="code", methods="lora")
    with pytest.raises(AutopeftError, match=r"program code that comes with it.*`trust_remote_code: true` in the plan"):
        autopeft.search(**given)
    assert not marker.exists()
    search = autopeft.search(**given, trust_remote_code=True)
    assert marker.exists()
    assert [trial.status for trial in search.trials] == [Status.FINISHED]
    assert search.record.plan.trust_remote_code
    marker.unlink()
    with pytest.raises(AutopeftError, match=r"if you trust it, say --trust-remote-code here, too"):
        search.export(1, place / "by-the-database")
    with pytest.raises(AutopeftError, match=r"if you trust it, say --trust-remote-code here, too"):
        search.confirm(1)
    with pytest.raises(AutopeftError, match=r"if you trust it, say --trust-remote-code here, too"):
        autopeft.resume(search.name, **{name: given[name] for name in ("storage", "folder", "workers")})
    assert not marker.exists(), "a database alone decides nothing"
    search.export(1, place / "trusted", trust_remote_code=True)
    with pytest.raises(AutopeftError, match="program code that comes with it"):
        autopeft.load(place / "trusted")
    assert autopeft.load(place / "trusted", trust_remote_code=True).task.classes == ("negative", "positive")
