"""A search with weights held in bf16: what is trained, remembered, gone on with, confirmed and given away."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import autopeft
from autopeft.plan import Plan
from autopeft.searching.preparation import prepare
from autopeft.trial import Status
from tests.user import user_folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[autopeft.Search, dict[str, object]]:
    place = user_folder(tmp_path_factory.mktemp("user"))
    where: dict[str, object] = {"workers": 0, "storage": f"sqlite:///{place}/db.db", "folder": str(place / "runs")}
    asked = {"model": str(place / "model"), "data": str(place / "reviews.csv"), "space": "quick", "max_length": 16}
    methods = ("lora", "bitfit")
    search = autopeft.search(**asked, methods=methods, dtype="bfloat16", trials=2, keep="all", name="half", **where)
    return search, where


def test_a_search_in_bf16_trains_what_it_predicted_and_remembers_the_dtype(
    searched: tuple[autopeft.Search, dict[str, object]],
) -> None:
    search, _ = searched
    assert search.plan.dtype == search.record.facts["dtype"] == "bfloat16"
    assert Plan.from_dict(search.plan.to_dict()) == search.plan
    finished = [trial for trial in search.trials if trial.status is Status.FINISHED]
    assert {trial.candidate.name for trial in finished} == {"lora", "bitfit"}
    for trial in finished:
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.outcome.measured.memory == pytest.approx(trial.predicted.memory, rel=0.03)
        said = json.loads((Path(trial.outcome.artifact) / "autopeft.json").read_text())
        assert (said["dtype"], said["precision"]) == ("bfloat16", "bfloat16")


def test_it_is_gone_on_with_and_confirmed_in_the_dtype_that_it_began_with(
    searched: tuple[autopeft.Search, dict[str, object]],
) -> None:
    search, where = searched
    resumed = autopeft.resume(search.name, trials=3, **where)
    assert resumed.record.facts["dtype"] == "bfloat16"
    known = resumed.record
    prepared = prepare(known.plan, Path(str(where["folder"])), "again", lambda _: None, known)
    assert prepared.job()._backbone.dtype == torch.bfloat16
    assert prepared.as_known
    confirmed = resumed.confirm(1, **where)
    assert all(each.status is Status.FINISHED for each in confirmed.record.confirmations)


@pytest.mark.parametrize("merge", [False, True])
def test_a_winner_is_loaded_merged_and_told_of_in_that_dtype(
    searched: tuple[autopeft.Search, dict[str, object]], merge: bool, tmp_path: Path
) -> None:
    search, _ = searched
    best = search.select()
    best.save(tmp_path / "winner", merge=merge)
    assert "weights were held in `bfloat16`" in (tmp_path / "winner" / "README.md").read_text(encoding="utf-8")
    winner, wide = autopeft.load(tmp_path / "winner"), autopeft.load(tmp_path / "winner", dtype="auto")
    assert winner.backbone.dtype == torch.bfloat16
    assert wide.backbone.dtype == torch.float32
    texts = ["the film was good", "the book was awful"]
    assert torch.allclose(winner.logits(texts), wide.logits(texts), atol=0.1)
    if merge:
        weights = load_file(tmp_path / "winner" / "model.safetensors")
        of_backbone = {each.dtype for name, each in weights.items() if "encoder" in name}
        assert of_backbone == {torch.bfloat16}
