"""A method of one's own, declared by a card in a folder of one's own: searched, exported, and loaded by who registers
it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.methods import saved
from tests.methods.test_saved import OWN, OWN_CARD
from tests.user import user_folder

MODULE = "own_method_of_a_search"
TEXTS = ["the film was good", "the book was awful"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[autopeft.Search, Path]]:
    """A finished search in a space of one's own, and its folder."""
    place = user_folder(tmp_path_factory.mktemp("user"))
    (place / f"{MODULE}.py").write_text(OWN)
    (place / "cards" / "methods").mkdir(parents=True)
    (place / "cards" / "methods" / "mine.yaml").write_text(OWN_CARD.format(module=MODULE))
    sys.path.insert(0, str(place))
    search = autopeft.search(
        model=str(place / "model"),
        data=str(place / "reviews.csv"),
        space=str(place / "cards"),
        max_length=16,
        trials=1,
        workers=0,
        name="mine",
        storage=f"sqlite:///{place}/searches.db",
        folder=str(place / "runs"),
    )
    yield search, place
    sys.path.remove(str(place))
    sys.modules.pop(MODULE)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process, which has read no cards but the shipped ones."""
    monkeypatch.setattr(saved, "_cards", {})
    monkeypatch.setattr(saved, "_classes", set())


def test_a_search_loads_its_own_winner(searched: tuple[autopeft.Search, Path], tmp_path: Path) -> None:
    search, _ = searched
    search.trial(1).save(tmp_path / "winner")
    assert set(autopeft.load(tmp_path / "winner").predict(TEXTS)) <= {"positive", "negative"}


@pytest.mark.usefixtures("elsewhere")
def test_another_process_exports_by_the_cards_of_the_space_and_loads_what_it_registers(
    searched: tuple[autopeft.Search, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, place = searched
    artifact = search.trial(1).outcome.artifact  # type: ignore[union-attr]
    with pytest.raises(AutopeftError, match=f"from {MODULE} import Mine; autopeft.register"):
        autopeft.load(artifact)
    with pytest.raises(AutopeftError, match="is no method of autopeft or peft"):
        search.trial(1).save(tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    with pytest.raises(AutopeftError, match=r"name code of their own .*say --space here, too"):
        search.export(1, tmp_path / "winner")
    with pytest.raises(AutopeftError, match=r"name code of their own"):
        search.study()
    search.export(1, tmp_path / "winner", space=str(place / "cards"))
    monkeypatch.setattr(saved, "_cards", {})
    with pytest.raises(AutopeftError, match="is no method of autopeft or peft"):
        autopeft.load(tmp_path / "winner")
    autopeft.register(place / "cards")
    assert len(autopeft.load(tmp_path / "winner").predict(TEXTS)) == 2
    monkeypatch.setattr(saved, "_cards", {})
    autopeft.register(sys.modules[MODULE].Mine)
    assert len(autopeft.load(tmp_path / "winner").predict(TEXTS)) == 2
