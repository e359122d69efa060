"""Events over the network: what is heard shows as what was told, on a display and in a log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from io import StringIO

from autopeft.events import (
    BaselinesKnown,
    Begun,
    Confirming,
    Doing,
    Ended,
    Event,
    GivenAgain,
    TrialBegan,
    TrialConfirmed,
    TrialEnded,
    TrialReported,
    TurnedAway,
)
from autopeft.reports.progress import Progress
from autopeft.reports.screen import screen
from autopeft.reports.standing import Standing
from autopeft.reports.telling import heard, told
from autopeft.trial import SearchRecord, Status, Trial
from tests.reports.records import CREATED, confirmation, record

WHOLE = record()


def reported(trial: Trial) -> Trial:
    return replace(trial, status=Status.TRAINING, curve=trial.curve[:1], outcome=None, finished=None)


def happened() -> Iterator[Event]:
    """A search as its process hears it."""
    yield Doing("loading the backbone")
    yield Begun(replace(WHOLE, trials=WHOLE.trials[:1], confirmations=(), ended=None, turned_away={}))
    yield BaselinesKnown(WHOLE.baselines)
    for limit in ("memory",) * 12 + ("trainable",) * 2:
        yield TurnedAway(limit)
    yield GivenAgain(reported(WHOLE.trials[1]), "its worker was lost\nat line 3")
    for trial in WHOLE.trials[1:7]:
        began = replace(reported(trial), curve=())
        yield TrialBegan(began)
        yield TrialReported(reported(trial))
        yield TrialEnded(trial)
    yield Confirming(2)
    yield TrialConfirmed(confirmation(1, 1))
    yield TrialConfirmed(
        replace(confirmation(2, 1), status=Status.FAILED, reason="no room", validation=None, test=None)
    )
    yield Ended(WHOLE)


def test_what_is_heard_shows_as_what_was_told() -> None:
    here, there = StringIO(), StringIO()
    told_of, known = Standing(0.0), Standing(0.0)
    local, remote = (Progress(stream, clock=lambda: 0.0) for stream in (here, there))

    def fetched() -> SearchRecord:
        return WHOLE  # It knows all of its trials already, also those that ended since.

    for event in happened():
        local(event)
        told_of = told_of.after(event, 0.0)
        if (said := told(event, told_of, 0.0)) is None:
            continue
        kind, plain = said
        at = (CREATED + timedelta(seconds=61)).isoformat()  # When the first trial had ended, and no other one.
        sent = json.loads(json.dumps({"at": at, "kind": kind, **plain}))
        for each in heard(kind, sent, known.turned_away, fetched):
            remote(each)
            known = known.after(each, 0.0)
        if kind not in ("begun", "over"):
            assert [line.plain for line in screen(known, 0.0, 50)] == [line.plain for line in screen(told_of, 0.0, 50)]
    assert there.getvalue() == here.getvalue()
    assert "14 candidates turned away" in here.getvalue()


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert list(heard("sung", {"at": CREATED.isoformat()}, {}, record)) == []
