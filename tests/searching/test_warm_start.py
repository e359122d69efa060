"""What past searches found on the same backbone comes first, where the new search could have proposed it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import autopeft
from autopeft.errors import CannotAttach
from autopeft.events import BaselinesKnown, Doing, Event
from autopeft.objectives import objectives_named
from autopeft.plan import Plan
from autopeft.searching.proposer import Proposer, default_params
from autopeft.searching.sameness import BACKBONE
from autopeft.searching.warm_start import LATEST, on_other_weights, past_searches, warm_start
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space, load_space
from autopeft.storage.repository import Repository
from autopeft.trial import Costs, Outcome, Rung, SearchRecord, Status, Trial
from tests.user import user_folder

QUICK = load_space("quick")
DEFAULT = load_space("default")
FACTS = {"backbone_parameters": 1000}
NEW = SearchRecord("new", Plan("mini", "other.csv"), datetime.now(UTC), facts=FACTS)


def drawn(method: str, space: Space = QUICK, **more: Any) -> Mapping[str, Any]:
    """A method at its defaults, but for `more`."""
    return {**default_params(space, method), **{name.replace("__", "."): value for name, value in more.items()}}


def lora(rank: int, space: Space = QUICK, **more: Any) -> Mapping[str, Any]:
    return drawn("lora", space, lora__rank=rank, **more)


def predict(candidate: Candidate) -> Costs:
    """LoRA of rank r costs r, all others 5."""
    size = int(str(candidate.parts[0].settings.get("rank", 5)))
    return Costs(size, 10 * size, 4 * size, 1, overhead=0.0)


def trial(number: int, params: Mapping[str, Any], accuracy: float, space: Space = QUICK) -> Trial:
    candidate = space.draw(Recalled(params))
    curve = (Rung(1, 1, accuracy, 0.02, 0.1, 1.0),)
    return Trial(number, candidate, predict(candidate), params, 0, Status.FINISHED, curve, Outcome(Status.FINISHED))


def searched(*results: tuple[Mapping[str, Any], float], name: str = "old", space: Space = QUICK) -> SearchRecord:
    """A past search on the same backbone, of these draws and accuracies."""
    trials = [trial(number, params, accuracy, space) for number, (params, accuracy) in enumerate(results, 1)]
    return SearchRecord(name, Plan("mini", "old.csv"), datetime.now(UTC), tuple(trials), facts=FACTS)


def begun(*past: SearchRecord, space: Space = QUICK, limits: Mapping[str, float] | None = None) -> list[Any]:
    return list(warm_start(past, NEW, space, predict, limits or {}))


def test_only_members_of_fronts_are_taken_over_and_spread_over_the_front() -> None:
    ranks = {1: 0.70, 2: 0.60, 4: 0.80, 8: 0.85, 16: 0.84, 32: 0.90, 64: 0.91}
    found = begun(searched(*((lora(rank), accuracy) for rank, accuracy in ranks.items())))
    taken = [params["lora.rank"] for params in found]
    assert all(found[at] == lora(rank) for at, rank in enumerate(taken))
    assert len(set(taken)) == 4
    assert set(taken) < {1, 4, 8, 32, 64}
    assert taken[0] == 64, "the most accurate"
    assert min(taken) <= 4


def test_searches_on_other_weights_are_left_out_and_older_ones_that_do_not_say_are_not() -> None:
    new = replace(NEW, facts={**FACTS, BACKBONE: "these"})
    said = {"these": lora(1), "others": lora(4), None: lora(8)}
    past = [
        replace(searched((params, 0.8), name=str(weights)), facts={**FACTS, **({BACKBONE: weights} if weights else {})})
        for weights, params in said.items()
    ]
    assert [on_other_weights(each, new) for each in past] == [False, True, False]
    found = warm_start(past, new, QUICK, predict, {})
    assert {params["lora.rank"] for params in found} == {1, 8}


def test_places_on_a_front_count_and_not_accuracies_of_different_data() -> None:
    easy = searched((lora(4), 0.97), (lora(16), 0.98), (lora(32), 0.99), name="easy")
    hard = searched((lora(2), 0.40), (lora(8), 0.60), name="hard")
    found = begun(easy, hard)
    assert found[0] == lora(8), "the best of its search, at fewer parameters than the best of the other"
    assert found == begun(easy, replace(hard, trials=tuple(_easier(each) for each in hard.trials)))


def _easier(trial: Trial) -> Trial:
    return replace(trial, curve=tuple(replace(rung, score=rung.score + 0.35) for rung in trial.curve))


def test_what_several_searches_found_is_tried_once_and_the_order_of_searches_decides_nothing() -> None:
    one = searched((lora(2), 0.8), (lora(8), 0.9), name="one")
    other = searched((lora(8), 0.7), (drawn("bitfit"), 0.6), name="other")
    found = begun(one, other)
    assert sorted(found, key=str) == sorted([lora(2), lora(8), drawn("bitfit")], key=str)
    assert begun(other, one) == found


@pytest.mark.parametrize(
    "change",
    [
        {"name": "new"},
        {"plan": Plan("maxi", "old.csv")},
        {"facts": {"backbone_parameters": 2000}},
        {"facts": {}},
        {"trials": ()},
    ],
)
def test_other_backbones_and_the_search_itself_are_not_looked_at(change: dict[str, Any]) -> None:
    past = searched((lora(2), 0.8))
    assert begun(past) == [lora(2)]
    assert begun(replace(past, **change)) == []


def test_what_did_not_finish_is_not_taken_over() -> None:
    past = searched((lora(2), 0.8), (lora(4), 0.9))
    stopped = replace(past.trials[1], status=Status.STOPPED)
    assert begun(replace(past, trials=(past.trials[0], stopped))) == [lora(2)]


def test_what_breaks_a_limit_or_cannot_be_attached_is_left_out() -> None:
    past = searched((lora(2), 0.8), (lora(8), 0.9), (drawn("bitfit"), 0.85))
    assert begun(past, limits={"trainable": 4}) == [lora(2)]

    def refusing(candidate: Candidate) -> Costs:
        if candidate.name == "lora":
            raise CannotAttach("no")
        return predict(candidate)

    assert list(warm_start([past], NEW, QUICK, refusing, {})) == [drawn("bitfit")]


def without(params: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return {key: value for key, value in params.items() if key != name}


@pytest.mark.parametrize(
    "params",
    [
        drawn("vera", DEFAULT),
        drawn("lora", DEFAULT, training__batch_size=16),
        drawn("lora", DEFAULT, training__head_start="random"),
        drawn("lora", DEFAULT, training__head_learning_rate=2e-4),
        drawn("lora", DEFAULT, training__epochs=3),
    ],
    ids=["method", "fixed number", "fixed name", "range", "values"],
)
def test_what_this_space_does_not_draw_is_left_out(params: Mapping[str, Any]) -> None:
    past = searched((params, 0.9), space=DEFAULT)
    assert begun(past, space=DEFAULT) == [params]
    assert begun(past) == []


@pytest.mark.parametrize(
    "change", [{"lora.rank": 128}, {"lora.rank": None}, {"lora.sites": "x,y"}, {"lora.learning_rate": 9.0}]
)
def test_what_a_card_does_not_hold_any_more_is_left_out(change: dict[str, Any]) -> None:
    past = searched((lora(2), 0.8))
    changed = replace(past.trials[0], params={**lora(2), **change})
    assert begun(replace(past, trials=(changed,))) == []


def test_other_settings_behind_the_same_draws_are_left_out() -> None:
    past = searched((lora(2), 0.8))
    part = past.trials[0].candidate.parts[0]
    other = replace(past.trials[0].candidate, parts=(replace(part, settings={**part.settings, "alpha": 7}),))
    assert begun(replace(past, trials=(replace(past.trials[0], candidate=other),))) == []


def test_draws_of_another_space_become_this_ones_which_can_be_proposed() -> None:
    quick = searched((lora(2), 0.8))
    (params,) = begun(quick, space=DEFAULT)
    assert params == lora(2, DEFAULT)
    full = searched((lora(2, DEFAULT), 0.8), space=DEFAULT)
    assert begun(full) == [lora(2)]
    for space, first in ((DEFAULT, params), (QUICK, lora(2))):
        proposer = Proposer(space, objectives_named(("score", "memory")), "random", seed=0)
        proposer.begin_with(first)
        assert proposer.propose().params == first


def test_any_objectives_will_do_and_nothing_gives_nothing() -> None:
    past = searched((lora(2), 0.8), (lora(8), 0.9))
    for objectives, first in ((("score",), lora(8)), (("memory", "overhead"), lora(2))):
        new = replace(NEW, plan=replace(NEW.plan, objectives=objectives))
        assert warm_start([past], new, QUICK, predict, {}) == (first,)
    assert begun() == []


def test_the_latest_searches_on_a_model_with_a_finished_trial_are_looked_at(tmp_path: Path) -> None:
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        assert past_searches(repository, "mini") == ()
        for number in range(LATEST + 1):
            repository.create(searched((lora(2), 0.8), name=f"old-{number}"))
        repository.create(searched(name="empty"))
        repository.create(replace(searched((lora(2), 0.8), name="else"), plan=Plan("maxi", "old.csv")))
        looked_at = past_searches(repository, "mini")
    assert [each.name for each in looked_at] == [f"old-{number}" for number in range(1, LATEST + 1)]
    assert begun(*looked_at) == [lora(2)]


def test_a_search_begins_with_the_front_of_an_earlier_one_on_other_data_also_when_it_is_resumed(tmp_path: Path) -> None:
    place = user_folder(tmp_path)
    (place / "space").mkdir()
    (place / "space" / "space.yaml").write_text(
        "methods: [bitfit, norm_tuning]\ntraining: {batch_size: 32, epochs: 1}\n"
    )
    where = {"workers": 0, "storage": f"sqlite:///{place}/searches.db", "folder": str(place / "runs")}
    said: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Doing):
            said.append(event.what)
        if isinstance(event, BaselinesKnown) and said.count("encoding the texts") == 2:
            raise KeyboardInterrupt

    def search(name: str, trials: int) -> autopeft.Search:
        what = {"model": str(place / "model"), "data": str(place / f"{name}.csv"), "space": str(place / "space")}
        plan = autopeft.Plan(**what, max_length=16, trials=trials, warm_start=True)
        return autopeft.search(plan, name=name, on_event=hear, **where)

    cold = search("reviews", trials=4)
    assert "no past search offers anything to begin with; going on with known good candidates alone" in said
    assert cold.record.facts["warm_start"] == []
    (place / "books.csv").write_text((place / "reviews.csv").read_text().replace("film", "book"))
    with pytest.raises(KeyboardInterrupt):
        search("books", trials=1)
    assert len([what for what in said if what.startswith("no past search")]) == 1
    warm = autopeft.resume("books", **where)
    begins = warm.record.facts["warm_start"]
    assert sorted(begins, key=str) == sorted((dict(trial.params) for trial in cold.front), key=str)
    assert [trial.params for trial in warm.trials] == begins[:1]
