"""Going on with a search: in its turn, on the same backbone and data, from wherever its files lie now."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import autopeft
from autopeft.artifacts import read_description
from autopeft.backbone.load import quietly
from autopeft.backbone.place import pinned
from autopeft.errors import AutopeftError
from autopeft.events import BaselinesKnown, Doing, Event, TrialReported
from autopeft.plan import Plan
from autopeft.searching.limits import extended
from autopeft.searching.sameness import BACKBONE, REVISION, as_known, require_same_backbone
from autopeft.searching.search import _stem
from autopeft.shipped import shipped
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord, Status
from tests.reports.records import BITFIT, bare, trial
from tests.tiny import tiny
from tests.user import user_folder

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord, Status
from tests.reports.records import CREATED, bare, trial

with Repository(sys.argv[1]) as repository:
    repository.create(bare(trial(1, accuracies=(), status=Status.TRAINING), ended=False))
    print("training", flush=True)
    sys.stdin.readline()
    repository.record("bare", trial(1))
    repository.update("bare", ended=CREATED)
"""


def test_what_another_process_finishes_while_a_resume_waits_for_its_turn_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    command = [sys.executable, "-c", DRIVER, storage]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdout is not None
    assert other.stdout.readline() == "training\n"

    def claim_after_the_other(repository: Repository, name: str) -> None:
        other.communicate("finish\n", timeout=60)
        claim(repository, name)

    claim: Callable[[Repository, str], None] = Repository.claim
    monkeypatch.setattr(Repository, "claim", claim_after_the_other)
    with pytest.raises(AutopeftError, match="search 'bare' reached its limits already"):
        autopeft.resume("bare", storage=storage, workers=0)
    assert other.returncode == 0
    assert autopeft.open("bare", storage=storage).trials == (trial(1),)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("user"))


def options(place: Path, **more: object) -> dict[str, Any]:
    """Settings of a very small search."""
    paths = {"model": str(place / "model"), "data": str(place / "reviews.csv"), **where(place)}
    plan = {"space": "quick", "methods": "bitfit", "max_length": 16, "trials": 1, "keep": "all"}
    return {**paths, **plan, **more}


def where(place: Path) -> dict[str, Any]:
    return {"workers": 0, "storage": f"sqlite:///{place}/searches.db", "folder": str(place / "runs")}


def interrupt_when_prepared(event: Event) -> None:
    if isinstance(event, BaselinesKnown):
        raise KeyboardInterrupt


def interrupt_at_the_second(event: Event) -> None:
    if isinstance(event, TrialReported) and event.trial.number == 2:
        raise KeyboardInterrupt


def test_searches_of_one_name_in_two_databases_have_weights_of_their_own(place: Path, tmp_path: Path) -> None:
    storages = {method: f"sqlite:///{tmp_path}/{method}.db" for method in ("bitfit", "ia3")}
    for method, storage in storages.items():
        autopeft.search(**options(place, methods=method, storage=storage, name="same"))
    for method, storage in storages.items():
        to = autopeft.open("same", storage=storage).export(1, tmp_path / method)
        assert read_description(to)[1].name == method

    # What an earlier version did to one of them, and others still may.
    bitfit, ia3 = (autopeft.open("same", storage=storage) for storage in storages.values())
    mine, theirs = (Path(each.trial(1).outcome.artifact) for each in (bitfit, ia3))  # type: ignore[union-attr]
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    with pytest.raises(AutopeftError, match=r"are not those of trial 1 \(bitfit\): another search wrote there"):
        bitfit.export(1, tmp_path / "winner")


def test_a_tampered_record_writes_into_no_folder_of_others(place: Path, tmp_path: Path) -> None:
    settings = options(place, storage=f"sqlite:///{tmp_path}/tampered.db", folder=str(tmp_path), name="tampered")
    resources = {name: settings[name] for name in where(place)}
    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, on_event=interrupt_when_prepared)
    foreign = tmp_path / "Documents-0123456789ab"
    (foreign / "0001").mkdir(parents=True)
    (foreign / "0001" / "thesis.txt").write_text("five years")
    with Repository(settings["storage"]) as repository:
        facts = repository.load("tampered").facts
        repository.update("tampered", facts={**facts, "weights_folder": foreign.name})
    with pytest.raises(AutopeftError, match="is not the folder of the weights of search 'tampered'"):
        autopeft.resume("tampered", **resources)
    assert {*foreign.rglob("*")} == {foreign / "0001", foreign / "0001" / "thesis.txt"}


@pytest.mark.parametrize("marked", [True, False])
def test_a_folder_that_an_earlier_version_did_not_mark_is_gone_on_with_and_a_marked_one_is_cleared(
    place: Path, tmp_path: Path, marked: bool
) -> None:
    settings = options(place, storage=f"sqlite:///{tmp_path}/begun.db", folder=str(tmp_path), name="begun", trials=2)

    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, on_event=interrupt_at_the_second)
    (folder,) = tmp_path.glob("begun-*")
    if marked:
        (folder / "0002.dead.writing").mkdir()
    else:  # Earlier versions kept nothing of trials that had not ended.
        (folder / ".autopeft-search").unlink()
        shutil.rmtree(folder / "0002")
        (folder / "0002.state").unlink()
    resources = {name: settings[name] for name in where(place)}
    search = autopeft.resume("begun", **resources)
    assert {path.name for path in folder.iterdir()} == {".autopeft-search", "0001", "0002"}
    assert all(search.has_weights(number) for number in (1, 2))


def test_weights_of_a_trial_that_is_trained_again_are_gone_before_it_has_new_ones(place: Path, tmp_path: Path) -> None:
    """Its worker wrote them and was killed before anybody knew; this time it may be stopped early."""
    settings = options(place, storage=f"sqlite:///{tmp_path}/begun.db", folder=str(tmp_path), name="begun", trials=2)

    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, on_event=interrupt_at_the_second)
    (folder,) = tmp_path.glob("begun-*")
    (folder / "0002.state").unlink()
    shutil.copytree(folder / "0001", folder / "0002", dirs_exist_ok=True)
    (folder / "0002" / "left").touch()
    with pytest.raises(KeyboardInterrupt):
        autopeft.resume("begun", **{name: settings[name] for name in where(place)}, on_event=interrupt_at_the_second)
    assert {path.name for path in folder.iterdir()} == {".autopeft-search", "0001", "0002", "0002.state"}
    assert not (folder / "0002" / "left").exists()


def test_what_is_known_to_be_good_is_found_once(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = f"sqlite:///{tmp_path}/begun.db"
    settings = options(place, methods="bitfit,ia3", storage=storage, folder=str(tmp_path), name="begun", trials=3)
    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, on_event=interrupt_at_the_second)
    known = autopeft.open("begun", storage=storage).record.facts["known_good"]
    assert {each["method"] for each in known} == {"ia3", "bitfit"}

    def again(*_: object) -> None:
        raise AssertionError("predicted again")

    monkeypatch.setattr("autopeft.searching.sitting.portfolio", again)
    done = autopeft.resume("begun", **{name: settings[name] for name in where(place)})
    assert [dict(trial.params) for trial in done.trials] == known[:3]
    assert done.record.facts["known_good"] == known


def test_names_that_are_found_for_two_searches_at_once_differ(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.searching.search._stem", lambda _: "reviews-now")
    inner: list[autopeft.Search] = []

    def search_meanwhile(event: Event) -> None:
        if isinstance(event, Doing) and event.what == "encoding the texts" and not inner:
            inner.append(autopeft.search(**options(place)))

    outer = autopeft.search(**options(place, on_event=search_meanwhile))
    assert [each.name for each in (*inner, outer)] == ["reviews-now", "reviews-now-2"]
    assert all(len(each.trials) == 1 and each.has_weights(1) for each in (*inner, outer))


def test_a_name_too_long_for_a_folder_is_refused_before_anything_is_done(place: Path) -> None:
    told: list[Event] = []
    with pytest.raises(AutopeftError, match="a name takes at most 100 bytes"):
        autopeft.search(**options(place, name=300 * "n", on_event=told.append))
    assert not told
    assert len(_stem(Plan("m", f"{300 * 'd'}.csv"))) < 100


def test_nothing_goes_on_on_another_backbone(place: Path, tmp_path: Path) -> None:
    model = shutil.copytree(place / "model", tmp_path / "model")
    settings = options(place, model=str(model), storage=f"sqlite:///{tmp_path}/searches.db")
    resources = {name: settings[name] for name in where(place)}
    done = autopeft.search(**settings, name="done")
    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, name="begun", on_event=interrupt_when_prepared)
    with quietly():
        tiny("bert", seed=1).save_pretrained(model)
    changed = "the model '.*' is not the one that search '.*' began with"
    with pytest.raises(AutopeftError, match=changed):
        autopeft.resume("begun", **resources)
    with pytest.raises(AutopeftError, match=changed):
        done.confirm(1, **resources)
    told: list[Event] = []
    autopeft.search(**settings, name="warm", warm_start=True, on_event=told.append)
    assert Doing("leaving out 1 of 1 past searches on this model: its weights were others then") in told
    resumed = autopeft.resume("begun", model=str(place / "model"), **resources)
    assert resumed.trials[0].status is Status.FINISHED, "on the backbone that it began with, wherever that lies now"


def test_a_finished_search_goes_on_with_more_trials_in_their_turn(place: Path) -> None:
    settings = options(place, methods="bitfit,ia3", name="more", trials=2, sampler="random", seed=3)
    first = autopeft.search(**settings).record
    assert first.ended is not None
    told: list[Event] = []
    more = autopeft.resume("more", trials=4, **where(place), on_event=told.append)
    assert more.trials[:2] == autopeft.open("more", storage=settings["storage"]).trials[:2]
    assert [trial.number for trial in more.trials] == [1, 2, 3, 4]
    assert all(trial.status is not Status.TRAINING and more.has_weights(trial.number) for trial in more.trials)
    assert (more.plan.trials, first.plan.trials) == (4, 2)
    assert more.record.ended is not None
    assert more.record.ended > first.ended
    assert more.record.facts["seconds"] > first.facts["seconds"]
    assert not any(isinstance(event, TrialReported) and event.trial.number < 3 for event in told)
    assert len({str(trial.params) for trial in more.trials}) == 4, "no proposal of the first sitting again"
    with pytest.raises(AutopeftError, match="search 'more' has 4 trials already; give more than that by --trials"):
        autopeft.resume("more", trials=4, **where(place))
    assert more.refresh().plan.trials == 4


def test_more_trials_that_are_interrupted_are_remembered_and_confirmed_at_the_end(place: Path) -> None:
    autopeft.search(**options(place, name="further", trials=1, confirm=1))

    with pytest.raises(KeyboardInterrupt):
        autopeft.resume("further", trials=3, **where(place), on_event=interrupt_at_the_second)
    interrupted = autopeft.open("further", storage=where(place)["storage"])
    assert (interrupted.record.ended, interrupted.plan.trials) == (None, 3)
    done = autopeft.resume("further", **where(place))
    assert len(done.trials) == 3
    assert {trial.number for trial in done.front} <= {each.number for each in done.record.confirmations}


ENDED = bare(trial(1), trial(2))
OF_TIME = replace(ENDED, plan=replace(ENDED.plan, trials=None, time=600.0), facts={"seconds": 599.0})


@pytest.mark.parametrize(
    ("known", "given", "limits"),
    [
        (replace(ENDED, plan=replace(ENDED.plan, trials=2)), {"trials": 3}, (3, None)),
        (replace(ENDED, plan=replace(ENDED.plan, trials=2)), {"time": "2h"}, (None, 7200.0)),
        (OF_TIME, {"time": "2h"}, (None, 7200.0)),
        (OF_TIME, {"trials": 3}, (3, None)),
        (OF_TIME, {"trials": 3, "time": "1h"}, (3, 3600.0)),
        (replace(OF_TIME, ended=None, facts={"seconds": 60.0}), {"trials": 3}, (3, 600.0)),
        (bare(trial(1), ended=False), {"trials": 8}, (8, None)),
    ],
)
def test_a_limit_that_is_given_takes_the_place_of_the_one_that_was_reached(
    known: SearchRecord, given: dict[str, Any], limits: tuple[int | None, float | None]
) -> None:
    now = extended(known, given.get("trials"), given.get("time"))
    assert (now.plan.trials, now.plan.time) == limits
    assert now.ended is None
    assert extended(known, None, None) is known


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"trials": 2}, "search 'bare' has 2 trials already; give more than that by --trials."),
        ({"trials": 0}, "trials must be at least 1, not 0."),
        ({"time": "9m"}, "search 'bare' took 9 min 59 s already, and --time counts all of it; give more."),
        ({"time": 2}, "time: 2 seconds? Write 2h or 2m or 2s."),
        ({"trials": 9, "time": "9m"}, "search 'bare' took 9 min 59 s already"),
    ],
)
def test_a_limit_that_is_reached_already_is_answered(given: dict[str, Any], answer: str) -> None:
    with pytest.raises(AutopeftError) as caught:
        extended(OF_TIME, given.get("trials"), given.get("time"))
    assert str(caught.value).startswith(answer)


class _Backbone:
    """What is compared of a backbone."""

    def __init__(self, fingerprint: str, parameters: int = 7) -> None:
        self.fingerprint = fingerprint
        self.parameters = parameters


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ({BACKBONE: "a", "backbone_parameters": 7}, ""),
        ({BACKBONE: "b", "backbone_parameters": 7}, "is not the one"),
        ({BACKBONE: "a", "backbone_parameters": 8}, "is not the one"),
        ({"backbone_parameters": 7}, "without knowing whether the backbone is still the one"),
        ({"backbone_parameters": 8}, "is not the one"),
    ],
)
def test_a_backbone_is_compared_as_far_as_it_is_known(facts: dict[str, Any], answer: str) -> None:
    told: list[str] = []
    try:
        require_same_backbone(replace(bare(), facts=facts), _Backbone("a"), told.append)  # type: ignore[arg-type]
    except AutopeftError as error:
        told = [str(error)]
    assert (answer in told[-1]) if answer else not told


def test_a_model_of_the_hub_is_loaded_at_the_commit_that_is_known(place: Path) -> None:
    assert pinned("bert", "0123abc") == "bert@0123abc"
    assert pinned("bert", None) == "bert"
    assert pinned("bert@main", "0123abc") == "bert@main"
    assert pinned(str(place / "model"), "0123abc") == str(place / "model")
    known = replace(bare(), facts={"backbone": bare().plan.model, REVISION: "0123abc"})
    assert as_known(known) == f"{bare().plan.model}@0123abc"
    assert as_known(replace(known, plan=replace(known.plan, model="elsewhere"))) == "elsewhere"


def _name_methods(cards: Path, *methods: str) -> None:
    """A space of short trainings of these methods."""
    space = (shipped("search_spaces") / "quick.yaml").read_text(encoding="utf-8")
    lines = [line for line in space.splitlines() if not line.startswith(("methods:", "hybrids:"))]
    (cards / "space.yaml").write_text("\n".join([*lines, f"methods: [{', '.join(methods)}]"]), encoding="utf-8")


def test_a_search_goes_on_without_a_method_that_left_its_space(place: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    (cards / "methods").mkdir(parents=True)
    for name, shipped_as in (("mine", "bitfit"), ("other", "ia3")):
        card = (shipped("search_spaces") / "methods" / f"{shipped_as}.yaml").read_text(encoding="utf-8")
        (cards / "methods" / f"{name}.yaml").write_text(card, encoding="utf-8")
    _name_methods(cards, "mine", "other")
    settings = options(place, space=str(cards), methods="mine,other", trials=4, sampler="random", name="left")

    def interrupt(event: Event) -> None:
        known = autopeft.open("left", storage=settings["storage"]).trials if isinstance(event, TrialReported) else ()
        if known and known[-1].candidate.name == "mine" and len({each.candidate.name for each in known[:-1]}) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, seed=2, on_event=interrupt)
    before = autopeft.open("left", storage=settings["storage"]).trials
    (cards / "methods" / "mine.yaml").unlink()
    _name_methods(cards, "other")
    told: list[Event] = []
    search = autopeft.resume("left", on_event=told.append, **where(place))
    assert any(isinstance(event, Doing) and "no longer draws" in event.what for event in told)
    unfinished = search.trial(before[-1].number)
    assert (unfinished.status, unfinished.outcome.reason) == (  # type: ignore[union-attr]
        Status.FAILED,
        "not trained again: the space no longer draws 'mine' like this",
    )
    assert search.trials[: len(before) - 1] == before[:-1]
    assert len(search.trials) == 4
    taught = [trial for trial in search.trials if trial.candidate.name == "other"]
    assert len(search.study().trials) == len(taught) < len(search.trials)
    _name_methods(cards, "lora")
    with pytest.raises(AutopeftError, match="holds none of mine, other any more"):
        search.study()


def test_a_project_that_was_moved_whole_goes_on_from_where_it_lies_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = user_folder(tmp_path / "before"), tmp_path / "after"
    monkeypatch.chdir(before)
    settings = {"space": "quick", "methods": "bitfit", "max_length": 16, "trials": 1, "workers": 0, "name": "moved"}
    autopeft.search(model="model", data="reviews.csv", **settings)
    before.rename(after)
    monkeypatch.chdir(after)
    search = autopeft.open("moved")
    assert search.has_weights(1), "in the run folder beside us"
    with pytest.raises(AutopeftError, match=r"the model of search 'moved' was '.*before/model', which is gone"):
        search.export(1, "winner")
    search.export(1, "winner", model="model")
    assert autopeft.load("winner").predict(["the film was good"]) in (["positive"], ["negative"])
    with pytest.raises(AutopeftError, match=r"the data of search 'moved' was '.*before/reviews.csv', which is gone"):
        search.confirm(1, workers=0, model="model")
    search.confirm(1, workers=0, model="model", data="reviews.csv")
    search.confirm(2, workers=0)
    assert len(search.record.confirmations) == 2


def test_a_search_and_a_trial_say_what_they_are_in_one_line(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    with Repository(storage) as repository:
        repository.create(bare(trial(1), trial(2, BITFIT, (), status=Status.FAILED)))
        repository.create(replace(bare(trial(1, BITFIT, (), status=Status.TRAINING)), name="new"))
    search = autopeft.open("bare", storage=storage)
    assert repr(search) == "<Search 'bare': 2 trials, 1 on the front>"
    assert repr(search.trial(1)) == "<Trial 1: lora, finished, score 0.8, memory 402 MiB, trainable 73.7k>"
    assert repr(search.trial(2)) == "<Trial 2: bitfit, failed, memory 402 MiB, trainable 73.7k>"
    assert repr(autopeft.open("new", storage=storage)) == "<Search 'new': 1 trial, none on the front>"
