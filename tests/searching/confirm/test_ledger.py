"""A front trained again: with seeds of its own, the test split once, each result kept, and no further than it must."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import autopeft
from autopeft.artifacts import load
from autopeft.data import store
from autopeft.errors import AutopeftError
from autopeft.events import Begun, Confirming, Ended, Event, TrialConfirmed
from autopeft.plan import Plan
from autopeft.searching.confirm.lacking import outstanding, require_same_test
from autopeft.searching.confirm.ledger import Confirmer
from autopeft.searching.confirm.worker import Again, Answered, ConfirmingWorker
from autopeft.searching.preparation import prepare
from autopeft.searching.worker import Job, TrainingWorker
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.storage.repository import Repository
from autopeft.tasks.metrics import ACCURACY
from autopeft.training.evaluation import Evaluation, evaluate
from autopeft.trial import Answers, Costs, Outcome, Rung, SearchRecord, Status, Trial
from tests.reports.records import confirmation, record
from tests.sampled import sampled
from tests.user import user_folder


def members(of: SearchRecord, seeds: int) -> list[tuple[int, int]]:
    return [(each.number, each.repeat) for each in outstanding(of, seeds)]


def test_every_member_is_trained_with_one_seed_before_any_is_with_the_next() -> None:
    fresh = replace(record(), confirmations=())
    assert members(fresh, 2) == [(1, 1), (2, 1), (4, 1), (6, 1), (1, 2), (2, 2), (4, 2), (6, 2)]


def test_only_what_is_lacking_is_trained_also_what_is_new_on_the_front_and_what_more_seeds_ask_for() -> None:
    assert members(record(), 3) == [(6, 1), (6, 2), (6, 3)]
    assert members(record(), 4) == [(6, 1), (6, 2), (6, 3), (1, 4), (2, 4), (4, 4), (6, 4)]
    assert members(record(), 1) == [(6, 1)]


@pytest.mark.parametrize("how", [Status.FAILED, Status.LOST])
def test_what_failed_or_was_lost_is_lacking_still(how: Status) -> None:
    others = record().confirmations[1:]
    gone = replace(record().confirmations[0], status=how, reason="gone", step=0, validation=None, test=None)
    assert members(replace(record(), confirmations=(gone, *others)), 3) == [(1, 1), (6, 1), (6, 2), (6, 3)]


def test_what_judged_an_earlier_step_than_the_last_is_lacking_still() -> None:
    others = record().confirmations[1:]
    earlier = replace(record().confirmations[0], step=30)
    assert members(replace(record(), confirmations=(earlier, *others)), 1) == [(1, 1), (6, 1)]


def test_members_share_the_seed_of_a_repeat_and_no_trial_of_any_search_has_it() -> None:
    fresh = replace(record(), confirmations=())
    seeds = {each.repeat: each.seed for each in outstanding(fresh, 3)}
    assert {each.seed for each in outstanding(fresh, 3)} == set(seeds.values())
    assert len(set(seeds.values())) == 3
    largest_of_a_trial = (2**32 - 1) * 100_003 + 10**9
    assert min(seeds.values()) > largest_of_a_trial


def test_other_rows_than_before_are_refused() -> None:
    known = replace(record(), confirmations=(replace(confirmation(1), facts={"test_fingerprint": "tokens-a"}),))
    require_same_test(known, "tokens-a")
    require_same_test(record(), "tokens-a")
    with pytest.raises(AutopeftError, match=r"the test split of .* is not the one that search"):
        require_same_test(known, "tokens-b")


@pytest.mark.parametrize(
    ("then", "now", "right"), [("a", "a", True), ("", "a", True), ("a", "b", False), ("a", "", False)]
)
def test_another_test_split_than_that_of_the_search_is_refused(then: str, now: str, right: bool) -> None:
    first, *others = record().trials
    assert first.outcome is not None
    outcome = replace(first.outcome, facts={**first.outcome.facts, "test_fingerprint": then})
    searched = replace(record(), confirmations=(), trials=(replace(first, outcome=outcome), *others))
    if right:
        require_same_test(searched, now)
    else:
        with pytest.raises(AutopeftError, match="put it back, or start another search"):
            require_same_test(searched, now)


def test_each_result_is_kept_when_it_arrives_and_nothing_stops_a_training(tmp_path: Path) -> None:
    heard: list[Event] = []
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        repository.create(record())
        ledger = Confirmer(record(), 3, repository, heard.append)
        first, second = ledger.next(), ledger.next()
        assert first is not None
        assert second is not None
        assert (first.candidate, first.curve) == (record().trials[5].candidate, ())
        assert ledger.rung(first.number, Rung(1, 3, 0.0, 0.02, 1.0, 1.0))
        seen = Answers.of(0.5, np.arange(400) % 2)
        ledger.ended(first.number, Answered(Status.FINISHED, seconds=2.0, step=3, validation=seen, test=seen))
        ledger.ended(second.number, Outcome(Status.FAILED, "diverged"))
        kept = [each for each in repository.load(record().name).confirmations if each.number == 6]
    assert [(each.repeat, each.status, each.reason, each.test) for each in kept] == [
        (1, Status.FINISHED, "", seen),
        (2, Status.FAILED, "diverged", None),
    ]
    assert heard == [Confirming(3), *(TrialConfirmed(each) for each in kept)]


def test_a_call_trains_what_came_to_nothing_once_and_replaces_it(tmp_path: Path) -> None:
    failed = replace(confirmation(1), status=Status.FAILED, reason="diverged", validation=None, test=None)
    known = replace(record(), confirmations=(failed,), trials=record().trials[:1])
    seen = Answers.of(0.5, np.arange(2))
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        repository.create(known)
        for outcome in (
            Outcome(Status.LOST, "the worker died"),
            Answered(Status.FINISHED, step=90, validation=seen, test=seen),
        ):
            ledger = Confirmer(repository.load(known.name), 1, repository, lambda _: None)
            given = ledger.next()
            assert given is not None
            ledger.ended(given.number, outcome)
            if outcome.status is Status.LOST:
                assert ledger.next() == given, "what was lost is given again, once"
                ledger.ended(given.number, outcome)
            assert ledger.next() is None
            kept = repository.load(known.name).confirmations
            assert [(each.status, each.reason) for each in kept] == [(outcome.status, outcome.reason)]
        assert kept[0].validation == seen
        assert not outstanding(repository.load(known.name), 1)


def data_with_test(folder: Path) -> Path:
    """A folder of training and test rows; a sixth of the test rows are labelled wrongly."""
    with (folder / "reviews.csv").open() as stream:
        rows = list(csv.reader(stream))
    (folder / "data").mkdir()
    for name, flipped in (("train", 1000), ("test", 6)):
        with (folder / "data" / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(rows[0])
            for number, (text, opinion) in enumerate(rows[1:], 1):
                other = "negative" if opinion == "positive" else "positive"
                writer.writerow([f"{text} {name}", other if number % flipped == 0 else opinion])
    return folder / "data"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = user_folder(tmp_path_factory.mktemp("user"))
    data_with_test(folder)
    return folder


@pytest.fixture(scope="module")
def job(place: Path) -> Job:
    plan = Plan(str(place / "model"), str(place / "data"), space="quick", max_length=16)
    return prepare(plan, place / "runs", "mine", lambda _: None).job


@pytest.fixture(scope="module")
def trainer(job: Job) -> TrainingWorker:
    return job()


@pytest.fixture(scope="module")
def worker(job: Job) -> ConfirmingWorker:
    return Again(job)()


METHODS = (
    "adalora",
    "adamix",
    "adapter",
    "bitfit",
    "far",
    "fishmask",
    "full",
    "ladder",
    "lora",
    "p_tuning",
    "prefix_tuning",
    "said",
    "sparse_adapter",
    "unipelt",
    "vera",
)


def trained(method: str, start: str = "random") -> Trial:
    """A trial whose rungs differ."""
    candidate = Candidate(method, (Part(method, learning_rate=0.05),), Training(head_start=start, epochs=4))
    return Trial(1, candidate, Costs(1, 1, 1, 1), {}, seed=3)


@pytest.mark.parametrize(("method", "start"), [*sampled(METHODS, ("random",)), ("lora", "probe")])
def test_search_confirmation_and_shipped_weights_answer_every_row_alike(
    trainer: TrainingWorker, worker: ConfirmingWorker, method: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the seed of the search, so that only what is judged could differ; in fp32, in which what is loaded runs."""
    monkeypatch.setattr("autopeft.training.precision.has_bf16", lambda _: False)
    before = {name: tensor.clone() for name, tensor in worker._backbone.model.state_dict().items()}
    *rungs, searched = trainer.train(trained(method, start))
    *again, confirmed = worker.train(trained(method, start))
    assert isinstance(searched, Outcome)
    assert isinstance(confirmed, Answered), confirmed
    loaded = load(worker._job.artifacts.parent / searched.artifact)
    shipped = worker._answers(trained(method, start), loaded.model, worker._validation)
    assert [each.score for each in again] == [each.score for each in rungs]  # type: ignore[union-attr]
    last = rungs[-1]
    assert isinstance(last, Rung)
    assert (confirmed.step, confirmed.validation) == (last.steps, shipped)
    assert shipped.score == last.score
    assert confirmed.test is not None
    assert confirmed.test.rows == 120
    after = worker._backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_last_step_answers_though_an_earlier_rung_was_better(
    worker: ConfirmingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    then: list[float] = []

    def look(*arguments: object) -> Evaluation:
        judged = evaluate(*arguments)  # type: ignore[arg-type]
        then.append(ACCURACY.of(judged.statistics))
        return replace(judged, statistics=judged.statistics * ([1.0] if len(then) == 1 else [2.0, *[1.0] * 6]))

    monkeypatch.setattr("autopeft.training.loop.evaluate", look)
    *rungs, last = worker.train(trained("lora"))
    assert isinstance(last, Answered), last
    assert last.step == rungs[-1].step  # type: ignore[union-attr]
    assert last.validation is not None
    assert last.validation.score == then[-1] != then[0]


def test_the_test_split_is_read_for_confirmations_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_split = store.open_split

    def note(folder: Path, name: str) -> store.Dataset:
        opened.append(name)
        return open_split(folder, name)

    for module in ("worker", "confirm.worker", "preparing.dataset", "preparing.baselines"):
        monkeypatch.setattr(f"autopeft.searching.{module}.open_split", note)
    searched = autopeft.search(**options(place, "unseen", trials=1))
    assert "test" not in opened
    searched.confirm(1, workers=0, folder=str(place / "runs"))
    assert opened.count("test") == 1


def options(place: Path, name: str, **more: object) -> dict[str, object]:
    return {
        "model": str(place / "model"),
        "data": str(place / "data"),
        "space": "quick",
        "methods": "bitfit,ia3",
        "max_length": 16,
        "workers": 0,
        "storage": f"sqlite:///{place}/searches.db",
        "folder": str(place / "runs"),
        "name": name,
        **more,
    }


def test_a_search_that_confirms_can_be_interrupted_gone_on_with_and_confirmed_further(place: Path) -> None:
    heard: list[Event] = []

    def interrupt(event: Event) -> None:
        heard.append(event)
        if isinstance(event, TrialConfirmed):
            raise KeyboardInterrupt

    settings = options(place, "sure", trials=2, confirm=2)
    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, on_event=interrupt)
    assert isinstance(heard[-1], Ended)
    assert heard[-1].interrupted
    where = {name: settings[name] for name in ("workers", "storage", "folder")}
    begun = autopeft.open("sure", storage=str(settings["storage"]))
    assert begun.record.ended is not None
    assert len(begun.record.confirmations) == 1

    done = autopeft.resume("sure", **where)
    front = len(done.front)
    assert sorted(each.repeat for each in done.record.confirmations) == [1] * front + [2] * front
    assert done.record.confirmations[0] == begun.record.confirmations[0]
    with pytest.raises(AutopeftError, match="reached its limits already"):
        autopeft.resume("sure", **where)

    again: list[Event] = []
    more = done.confirm(3, on_event=again.append, workers=0, folder=str(place / "runs"))
    assert len(more.record.confirmations) == 3 * front
    assert [type(each) for each in again if isinstance(each, Begun | Confirming | Ended)] == [Begun, Confirming, Ended]
    assert more.confirmed is not None
    assert more.confirmed.split == "test"
    for member in more.confirmed.members:
        assert member.test is not None
        assert all(0.5 < value <= 5 / 6 + 1e-9 for value in member.test.values), "a sixth of the labels is wrong"
    nothing: list[Event] = []
    more.confirm(3, on_event=nothing.append, workers=0, folder=str(place / "runs"))
    assert nothing == []


def test_a_lost_confirmation_is_given_again_once_and_one_that_ran_out_beside_others_alone(storage: str) -> None:
    name = record().name
    with Repository(storage) as repository:
        repository.record(name, record().trials[0])
        confirmer = Confirmer(repository.load(name), 2, repository, lambda _: None)
        first = confirmer.next()
        assert first is not None
        confirmer.ended(first.number, Outcome(Status.LOST, "the worker was lost: killed"))
        assert confirmer.next() == first, "with the same number and seed"
        confirmer.ended(first.number, Outcome(Status.LOST, "the worker was lost: killed"))
        second = confirmer.next()
        assert second is not None
        confirmer.ended(second.number, Outcome(Status.FAILED, "out of memory", facts={"device_part": 0.5}))
        assert confirmer.next() == replace(second, alone=True)
        confirmer.ended(second.number, Outcome(Status.FINISHED))
        assert confirmer.next() is None
        statuses = [(each.repeat, each.status) for each in repository.load(name).confirmations]
    assert statuses == [(1, Status.LOST), (2, Status.FINISHED)]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[str]:
    url = f"sqlite:///{tmp_path}/searches.db"
    with Repository(url) as repository:
        repository.create(replace(record(), trials=(), confirmations=()))
    return url


def test_without_a_front_there_is_nothing_to_confirm(storage: str) -> None:
    with pytest.raises(AutopeftError, match="has no front to confirm: no trial finished"):
        autopeft.open(record().name, storage=storage).confirm()


@pytest.mark.parametrize("seeds", [0, -1, 2.5, "3"])
def test_a_number_of_seeds_that_is_none_is_answered(storage: str, seeds: object) -> None:
    with pytest.raises(AutopeftError, match="seeds must be a whole number of at least 1"):
        autopeft.open(record().name, storage=storage).confirm(seeds)  # type: ignore[arg-type]
