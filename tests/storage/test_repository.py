"""What is recorded is what is loaded, whatever it is and however often it was recorded."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, select

from autopeft.errors import AutopeftError
from autopeft.plan import Budget, Plan
from autopeft.sizes import Share
from autopeft.storage.base import Base
from autopeft.storage.repository import Repository, Summary
from autopeft.trial import Answers, Baseline, Confirmation, Costs, Outcome, Rung, SearchRecord, Status, Trial
from tests.reports.records import ADAPTER, CREATED, LORA, bare, confirmation, of_a_loss, record, trial
from tests.storage.drawn import comparable, confirmations, moments, trials

drawing = settings(max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def repository(url: str) -> Iterator[Repository]:
    """It holds a search named `bare` without trials."""
    with Repository(url) as opened:
        opened.create(bare())
        yield opened


def everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = Base.metadata.sorted_tables
        found = {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in tables
        }
    engine.dispose()
    return found


def test_a_whole_search_comes_back_equal(url: str) -> None:
    with Repository(url) as repository:
        repository.create(record())
        assert repository.load(record().name) == record()
    with Repository(url) as repository:
        assert repository.load(record().name) == record()


@drawing
@given(one=trials(7))
def test_any_trial_comes_back_equal(repository: Repository, one: Trial) -> None:
    repository.record("bare", one)
    assert comparable(repository.load("bare").trials) == comparable((one,))


@drawing
@given(one=trials(7))
def test_recording_twice_equals_once(repository: Repository, url: str, one: Trial) -> None:
    repository.record("bare", one)
    once = everything(url)
    repository.record("bare", one)
    assert comparable(everything(url)) == comparable(once)


@drawing
@given(before=trials(7), after=trials(7))
def test_what_a_trial_was_before_leaves_no_trace(repository: Repository, url: str, before: Trial, after: Trial) -> None:
    repository.record("bare", after)
    alone = everything(url)
    repository.record("bare", before)
    repository.record("bare", after)
    assert comparable(everything(url)) == comparable(alone)


@drawing
@given(before=confirmations(7), after=confirmations(7))
def test_any_confirmation_comes_back_equal_and_recording_its_trial_again_leaves_it(
    repository: Repository, before: Confirmation, after: Confirmation
) -> None:
    repository.record("bare", trial(7))
    for each in (before, after, after):
        repository.confirm("bare", each)
    repository.record("bare", trial(7, ADAPTER))
    assert comparable(repository.load("bare").confirmations) == comparable((after,))


def test_confirmations_come_back_by_trial_and_repeat(repository: Repository) -> None:
    kept = record().confirmations
    for each in record().trials:
        repository.record("bare", each)
    for each in reversed(kept):
        repository.confirm("bare", each)
    assert len(kept) > 2
    assert repository.load("bare").confirmations == kept


def test_a_trial_that_begins_again_loses_its_rungs(repository: Repository) -> None:
    begun = trial(1, accuracies=(), status=Status.TRAINING)
    other = trial(2, ADAPTER)
    for each in (begun, trial(1, status=Status.TRAINING), other, begun):
        repository.record("bare", each)
    assert repository.load("bare").trials == (begun, other)


def test_trials_come_back_by_number(repository: Repository) -> None:
    for number in (3, 1, 2):
        repository.record("bare", trial(number))
    assert [each.number for each in repository.load("bare").trials] == [1, 2, 3]


def test_a_trial_belongs_to_its_search(repository: Repository) -> None:
    repository.create(replace(bare(), name="other"))
    repository.record("bare", trial(1, LORA))
    repository.record("other", trial(1, ADAPTER))
    assert [each.candidate for each in repository.load("bare").trials] == [LORA]
    assert [each.candidate for each in repository.load("other").trials] == [ADAPTER]


def test_both_costs_come_back_with_their_parts(repository: Repository) -> None:
    predicted = Costs(10, 300, 40, 50, {"weights": 200, "activations": 100}, 17, 0.25)
    measured = Costs(10, 310, 40, 51, {"weights": 210, "activations": 100})
    one = replace(trial(1), predicted=predicted, outcome=Outcome(Status.FINISHED, measured=measured, artifact="a/0001"))
    repository.record("bare", one)
    assert repository.load("bare").trials == (one,)


def test_numbers_that_are_not_finite_come_back(repository: Repository) -> None:
    rung = Rung(1, 2, math.nan, 0.02, math.inf, -math.inf)
    outcome = Outcome(Status.FAILED, "the loss", math.nan, facts={"losses": [1.0, math.nan, -math.inf]})
    one = replace(trial(1), curve=(rung,), outcome=outcome)
    repository.record("bare", one)
    odd = {"majority class": Baseline(0.5, 0.01), "linear probe": Baseline(math.nan, math.nan)}
    repository.update("bare", baselines=odd)
    loaded = repository.load("bare")
    assert comparable(loaded.trials) == comparable((one,))
    assert comparable(loaded.baselines) == comparable(odd)


def test_a_reason_may_hold_any_characters(repository: Repository) -> None:
    repository.record("bare", trial(1, status=Status.FAILED, reason="bad\0 \ud800 name: é 漢"))
    outcome = repository.load("bare").trials[0].outcome
    assert outcome is not None
    assert outcome.reason == "bad\\x00 \\ud800 name: é 漢"


@drawing
@given(fraction=st.floats(min_value=1e-9, max_value=1), moment=moments)
def test_a_plan_comes_back_with_exact_shares_and_moments_in_utc(
    repository: Repository, fraction: float, moment: datetime
) -> None:
    plan = Plan(
        "mini",
        "data.csv",
        text=("a", "b"),
        label="y",
        methods=("lora",),
        objectives=("score", "flops"),
        budget=Budget(memory=2**40, trainable=Share(fraction), score=0.1),
        time=5400.5,
    )
    recorded = SearchRecord(f"search {len(repository.names())}", plan, moment)
    repository.create(recorded)
    loaded = repository.load(recorded.name)
    assert loaded == recorded
    assert loaded.created.tzinfo is UTC


def test_a_search_is_forgotten_with_all_that_belongs_to_it_and_no_other(repository: Repository, url: str) -> None:
    before = everything(url)
    repository.create(record())
    repository.delete(record().name)
    assert everything(url) == before
    repository.create(record())
    assert repository.load(record().name) == record()


def test_what_is_updated_changes_and_nothing_else(repository: Repository) -> None:
    given: dict[str, object] = {
        "baselines": {"mean": Baseline(0.5, 0.1, 1.5, Answers.of(0.5, np.arange(2)))},
        "facts": {"seconds": 1.5, "labels": ["no", "yes"]},
        "turned_away": {"memory": 3},
        "ended": CREATED + timedelta(hours=1),
    }
    expected = repository.load("bare")
    for name, value in given.items():
        repository.update("bare", **{name: value})  # type: ignore[arg-type]
        expected = replace(expected, **{name: value})  # type: ignore[arg-type]
        assert repository.load("bare") == expected


def test_another_reader_sees_every_write_at_once(repository: Repository, url: str) -> None:
    with Repository(url) as reader:
        for number in (1, 2):
            repository.record("bare", trial(number))
            assert len(reader.load("bare").trials) == number
        repository.update("bare", turned_away={"memory": 1})
        assert reader.load("bare").turned_away == {"memory": 1}


def test_names_are_listed_in_the_order_of_creation(repository: Repository) -> None:
    repository.create(replace(bare(), name="another"))
    assert repository.names() == ("bare", "another")


def test_a_summary_counts_all_trials_and_takes_the_best_that_finished(url: str) -> None:
    endless = replace(
        bare(
            trial(1, accuracies=(0.99, 0.7)),
            trial(2, accuracies=(0.5, 0.8)),
            trial(3, accuracies=(0.95,), status=Status.TRAINING),
            trial(4, accuracies=(0.96,), status=Status.FAILED),
            trial(5, accuracies=(math.nan,)),
            ended=False,
        ),
        name="endless",
    )
    with Repository(url) as repository:
        repository.create(bare())
        repository.create(endless)
        repository.create(replace(bare(trial(1, accuracies=(math.nan,))), name="lost"))
        assert repository.summaries() == (
            Summary("bare", CREATED, CREATED, 0, None, "mini"),
            Summary("endless", CREATED, None, 5, 0.8, "mini"),
            Summary("lost", CREATED, CREATED, 1, None, "mini"),
        )


def test_of_a_loss_the_lowest_is_the_best_of_a_summary(url: str) -> None:
    with Repository(url) as repository:
        repository.create(of_a_loss())
        (summary,) = repository.summaries()
        assert summary.best == pytest.approx(12.56)
        assert summary.metric == of_a_loss().metric
        assert repository.load(summary.name) == of_a_loss()


def test_a_name_can_be_taken_once(repository: Repository, url: str) -> None:
    taken = "a search named 'bare' exists already; go on with it by `resume`, or give another name."
    repository.require_free("bar")
    for refused in (lambda: repository.require_free("bare"), lambda: repository.create(bare())):
        with pytest.raises(AutopeftError) as error:
            refused()
        assert str(error.value) == taken
    with Repository(url) as second, pytest.raises(AutopeftError, match="exists already"):
        second.create(bare())


def test_a_search_that_is_refused_leaves_nothing_behind(repository: Repository, url: str) -> None:
    before = everything(url)
    with pytest.raises(AutopeftError):
        repository.create(replace(record(), name="bare"))
    assert everything(url) == before


def test_an_unknown_name_is_answered_with_the_nearest(repository: Repository) -> None:
    actions = (
        repository.load,
        repository.claim,
        lambda name: repository.record(name, trial(1)),
        lambda name: repository.confirm(name, confirmation(1)),
        lambda name: repository.update(name, ended=CREATED),
        repository.delete,
    )
    for action in actions:
        with pytest.raises(AutopeftError) as error:
            action("bore")
        assert str(error.value) == "unknown search 'bore'. Did you mean 'bare'? Known: bare."


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        assert repository.names() == ()
        assert repository.summaries() == ()
        repository.require_free("bare")
        with pytest.raises(AutopeftError, match=r"unknown search 'bare'. Known: none."):
            repository.load("bare")
        assert not list(tmp_path.iterdir())
        repository.create(bare())
        assert repository.names() == ("bare",)


def test_a_repository_that_was_opened_first_sees_what_another_makes(url: str) -> None:
    with Repository(url) as reader:
        assert reader.names() == ()
        with Repository(url) as writer:
            writer.create(bare())
        assert reader.names() == ("bare",)


def test_sqlite_keeps_foreign_keys_and_a_log_for_readers(tmp_path: Path) -> None:
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        repository.create(bare())
        with repository._reading() as session:
            connection = session.connection()
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    assert [path.name for path in tmp_path.iterdir()] == ["searches.db"]
