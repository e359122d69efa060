"""Progress tells a pipe in plain lines and draws in a terminal of any size; it never ends a search."""

import io
import os
import pty
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

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
from autopeft.objectives import score_of
from autopeft.reports.lines import lines, show_baselines, show_clock
from autopeft.reports.progress import Progress
from autopeft.reports.screen import Screen, screen, sparkline
from autopeft.reports.standing import Standing
from autopeft.trial import Baseline, SearchRecord, Status
from tests.reports.records import ADAPTER, HYBRID, MIB, bare, confirmation, record, trial


def begun(**changes: object) -> SearchRecord:
    """The search before its first trial."""
    whole = record()
    return replace(whole, trials=(), baselines={}, ended=None, turned_away={}, plan=replace(whole.plan, **changes))


def events(interrupted: bool = False) -> list[Event]:
    """A whole search."""
    whole = record()
    assert whole.baselines
    first, second, third = whole.trials[:3]
    said: list[Event] = [Doing("loading the backbone"), Begun(begun()), BaselinesKnown(whole.baselines)]
    said += [TrialBegan(replace(first, curve=())), TurnedAway("memory"), TrialBegan(replace(third, curve=()))]
    said += [TrialReported(replace(first, curve=first.curve[:1])), TrialEnded(first), TrialEnded(third)]
    said += [TurnedAway("trainable"), TrialBegan(second), TrialEnded(second), Ended(whole, interrupted)]
    return said


def test_a_lost_trial_is_told_as_lost_and_counted_apart_from_failures() -> None:
    gone = trial(4, ADAPTER, (), status=Status.LOST, reason="the worker died\nat line 3")
    whole = record()
    standing = Standing(0.0)
    for event in (Begun(begun()), TrialEnded(whole.trials[0]), TrialEnded(whole.trials[2]), TrialEnded(gone)):
        standing = standing.after(event, 1.0)
    assert lines(TrialEnded(gone), standing, 1.0) == (
        "[3/8] 00:01 #4 adapter bottleneck=64 scale=4  lost: the worker died",
    )
    assert lines(Ended(whole), standing, 1.0)[0].startswith("00:01 done: 3 trials ended, 1 failed, 1 lost, 1 on the")
    shown = [line.plain for line in screen(standing, 1.0, 40)]
    assert "      4  lost: the worker died  adapter bottleneck=64 scale=4" in shown
    assert shown[shown.index("1 failed, 1 lost") + 1 :] == [
        "  out of memory: tried to allocate 2 GiB",
        "  the worker died",
    ]


def test_a_trial_that_is_given_again_after_it_was_lost_ends_once() -> None:
    standing = Standing(0.0)
    for event in (Begun(begun()), TrialEnded(trial(1, status=Status.LOST)), TrialEnded(trial(1))):
        standing = standing.after(event, 1.0)
    assert [each.status for each in standing.ended] == [Status.FINISHED]


def ticking(step: float = 10.0) -> Callable[[], float]:
    """A clock that goes on by `step` seconds whenever it is read."""
    now = [-step]

    def clock() -> float:
        now[0] += step
        return now[0]

    return clock


def test_a_pipe_gets_one_line_per_event_that_matters() -> None:
    stream = io.StringIO()
    with Progress(stream, ticking()) as progress:
        for event in events():
            progress(event)
    assert (
        stream.getvalue()
        == """\
00:10 loading the backbone
00:20 search sst2-20261124-1530
00:20 text-classification: sentence -> label
00:20 rows: 6,920 train, 872 validation
00:30 accuracy: linear probe 0.812, majority class 0.509
00:40 training #1 lora rank=8 alpha=16 sites=q,v
00:50 1 candidate turned away before training (memory 1) so far
01:00 training #3 adapter bottleneck=64 scale=4
[1/8] 01:20 #1 lora rank=8 alpha=16 sites=q,v  accuracy 0.861  memory 402 MiB  trainable 73.7k  (front)
[2/8] 01:30 #3 adapter bottleneck=64 scale=4  failed: out of memory: tried to allocate 2 GiB
[3/8] 02:00 #2 bitfit layers=last 50%  accuracy 0.840  memory 350 MiB  trainable 20.0k  (front)
02:10 done: 3 trials ended, 1 failed, 2 on the front; 2 candidates turned away before training (memory 1, trainable 1)
"""
    )


def test_reference_points_are_told_with_what_they_are_measured_by() -> None:
    baselines = {"linear probe": Baseline(0.61, 0.01), "majority class": Baseline(0.49, 0.01)}
    shown = show_baselines(baselines, score_of("cost", "cost", higher_is_better=False, ideal=None))
    assert shown == "cost (less is better): majority class 0.49, linear probe 0.61"


def test_an_interrupted_search_is_not_called_done() -> None:
    stream = io.StringIO()
    progress = Progress(stream, ticking())
    for event in events(interrupted=True):
        progress(event)
    assert stream.getvalue().splitlines()[-1].startswith("02:10 interrupted: 3 trials ended")


def test_a_front_that_is_trained_again_is_told_line_by_line_and_drawn_as_a_count() -> None:
    stream = io.StringIO()
    progress = Progress(stream, ticking())
    failed = replace(confirmation(2), status=Status.FAILED, reason="out of memory\nat line 3")
    for event in (Begun(record()), Confirming(10), TrialConfirmed(confirmation(1, 2)), TrialConfirmed(failed)):
        progress(event)
    assert stream.getvalue().splitlines()[-3:] == [
        "00:20 training the front again: 10 trainings",
        "[ 1/10] 00:30 #1 again, seed 2: validation 0.800  test 0.780",
        "[ 2/10] 00:40 #2 again, seed 1: failed: out of memory",
    ]
    assert "training the front again, 2 of 10 done" in screen(progress._standing, 50.0, 9)[0].plain


def test_many_candidates_turned_away_are_told_seldom() -> None:
    stream = io.StringIO()
    progress = Progress(stream, ticking())
    progress(Begun(bare()))
    for _ in range(999):
        progress(TurnedAway("memory"))
    assert stream.getvalue().count("turned away") == 3


def test_a_stream_that_cannot_hold_a_character_gets_another() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Progress(stream)(Doing("reading 日本.csv"))
    assert raw.getvalue() == b"00:00 reading ??.csv\n"


def test_a_stream_that_has_gone_away_ends_no_search() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        stream.close()
        for event in events():
            progress(event)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Progress], None]], str]:
    """Runs something with a Progress in a real pseudo-terminal, and returns what it wrote."""

    def run(use: Callable[[Progress], None]) -> str:
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("LINES", "30")
        master, slave = pty.openpty()
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            use(Progress(stream))
            os.set_blocking(master, False)
            written = b""
            while True:
                try:
                    written += os.read(master, 65536)
                except BlockingIOError:
                    break
        os.close(master)
        return written.decode()

    return run


def test_a_terminal_sees_trials_and_front_while_they_come(terminal: Callable[..., str]) -> None:
    def use(progress: Progress) -> None:
        with progress:
            for event in events()[:-1]:
                progress(event)
            time.sleep(0.6)
            progress(events()[-1])

    written = terminal(use)
    assert "front: 2 trials" in written
    assert "linear probe 0.812" in written
    assert "1 failed" in written
    assert written.rstrip().splitlines()[-1].split("\x1b")[-1].endswith("(memory 1, trainable 1)")


def test_ctrl_c_gives_the_terminal_back(terminal: Callable[..., str]) -> None:
    def use(progress: Progress) -> None:
        with suppress(KeyboardInterrupt), progress:
            progress(Begun(begun()))
            signal.raise_signal(signal.SIGINT)

    written = terminal(use)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_dumb_terminal_gets_plain_lines(terminal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def use(progress: Progress) -> None:
        monkeypatch.setenv("TERM", "dumb")
        with progress:
            progress(Doing("loading the backbone"))

    assert terminal(use) == "00:00 loading the backbone\r\n"


def after(said: list[Event], step: float = 10.0) -> Standing:
    """How a search stands after these events, one every `step` seconds."""
    standing = Standing(0.0)
    for index, event in enumerate(said, 1):
        standing = standing.after(event, index * step)
    return standing


@settings(max_examples=60)
@given(st.integers(0, 13), st.integers(1, 130), st.integers(1, 50), st.floats(0, 1e6))
def test_the_display_fits_every_size_at_every_moment(events_seen: int, width: int, height: int, now: float) -> None:
    standing = after(events()[:events_seen])
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(Screen(lambda: standing, lambda: now))
    drawn = file.getvalue().splitlines()
    assert len(drawn) <= max(height - 1, 1)
    assert all(len(line) <= width for line in drawn)


def test_the_display_shows_what_is_wanted_most() -> None:
    shown = [line.plain for line in screen(after(events()[:8]), 100.0, 40)]
    assert shown[0] == "[1/8]  01:40  about 7 min 00 s left"
    assert shown[1] == "search sst2-20261124-1530 of mini"
    assert shown[2] == (
        "accuracy: linear probe 0.812, majority class 0.509; 1 candidate turned away before training (memory 1)"
    )
    assert shown[3:6] == [
        "training 1 trial",
        "  trial  accuracy  method",
        "      3  -         adapter bottleneck=64 scale=4",
    ]
    assert shown[6:9] == [
        "front: 1 trial",
        "  trial  accuracy  memory   trainable  method",
        "      1  0.861     402 MiB  73.7k      lora rank=8 alpha=16 sites=q,v",
    ]
    assert len(screen(after(events()[:8]), 100.0, 4)) <= 4


def test_a_trial_that_is_given_again_and_then_lost_is_told() -> None:
    running = trial(7, HYBRID, (0.5,), status=Status.TRAINING)
    lost = trial(7, HYBRID, (), status=Status.LOST, reason="the worker was lost: killed\nat line 3")
    stream = io.StringIO()
    with Progress(stream, ticking()) as progress:
        for event in (
            Begun(begun()),
            TrialBegan(running),
            GivenAgain(running, "the worker was lost: x"),
            TrialBegan(running),
        ):
            progress(event)
        progress(TrialEnded(lost))
        progress(Ended(replace(record(), ended=None)))
    said = stream.getvalue().splitlines()[-4:]
    assert said[0].endswith("#7 is trained once more: the worker was lost: x")
    assert said[1].endswith("training #7 lora_parallel: lora rank=4 sites=q,v + adapter bottleneck=16")
    assert said[2].endswith(
        "#7 lora_parallel: lora rank=4 sites=q,v + adapter bottleneck=16  lost: the worker was lost: killed"
    )
    assert "1 trial ended, 0 failed, 1 lost, 0 on the front" in said[3]
    standing = after([Begun(begun()), TrialBegan(running), GivenAgain(running, "x")])
    assert (standing.running, standing.ended) == ({}, ())
    shown = [line.plain for line in screen(after([Begun(begun()), TrialBegan(running), TrialEnded(lost)]), 30.0, 40)]
    assert any(line.startswith("      7  lost: the worker was lost: killed") for line in shown)


def test_the_display_draws_the_curve_of_a_running_trial() -> None:
    running = trial(7, HYBRID, (0.5, 0.6, 0.9), status=Status.TRAINING)
    running = replace(running, curve=running.curve[:2])
    shown = [line.plain for line in screen(after([Begun(begun()), TrialReported(running)]), 30.0, 40)]
    assert "  trial  accuracy            method" in shown
    assert "      7  ▁█ 0.600 after 67%  lora_parallel: lora rank=4 sites=q,v + adapter bottleneck=16" in shown


def test_a_sparkline_spans_its_values_and_ignores_what_is_not_a_number() -> None:
    assert sparkline(trial(1, accuracies=(0.2, 0.4, 0.9)).curve) == "▁▃█"
    assert sparkline(trial(1, accuracies=(0.5, 0.5)).curve) == "▄▄"
    assert sparkline(trial(1, accuracies=(float("nan"), 0.5)).curve) == "▄"


@pytest.mark.parametrize(
    ("changes", "earlier_seconds", "said", "now", "left"),
    [
        ({"trials": 8}, 0.0, 2, 50.0, None),
        ({"trials": 8}, 0.0, 3, 60.0, 7 * 40.0),
        ({"trials": None, "time": 600.0}, 0.0, 2, 50.0, 550.0),
        ({"trials": None, "time": 600.0}, 500.0, 2, 50.0, 50.0),
        ({"trials": 8, "time": 100.0}, 0.0, 3, 60.0, 40.0),
        ({"trials": None, "time": 10.0}, 0.0, 3, 60.0, 0.0),
    ],
)
def test_the_time_left_is_that_of_the_nearest_limit(
    changes: dict[str, object], earlier_seconds: float, said: int, now: float, left: float | None
) -> None:
    start = replace(begun(**changes), facts={"seconds": earlier_seconds})
    stream: list[Event] = [Begun(start), TrialBegan(trial(1, status=Status.TRAINING)), TrialEnded(trial(1))]
    assert after(stream[:said]).left(now) == left


def test_a_resumed_search_counts_what_was_there_and_estimates_from_what_is_new() -> None:
    standing = after([Begun(bare(trial(1), trial(2, ADAPTER, memory=9 * MIB), ended=False))])
    assert (standing.earlier, len(standing.ended), len(standing.front)) == (2, 2, 1)
    assert standing.left(100.0) is None


@pytest.mark.parametrize("then", [Confirming(2), Ended(begun()), Ended(begun(), interrupted=True)])
def test_what_time_left_without_a_rung_is_not_shown_as_being_trained(then: Event) -> None:
    standing = after([Begun(begun()), TrialBegan(trial(7, HYBRID, (), status=Status.TRAINING)), then])
    assert standing.running == {}


def test_a_trial_that_ended_is_no_longer_running() -> None:
    standing = after(events()[:9])
    assert standing.running == {}
    assert [each.number for each in standing.ended] == [1, 3]
    assert [each.number for each in standing.failed] == [3]


@pytest.mark.parametrize(("seconds", "said"), [(0, "00:00"), (42.9, "00:42"), (3599, "59:59"), (3723, "1:02:03")])
def test_a_clock_reads_as_clocks_do(seconds: float, said: str) -> None:
    assert re.fullmatch(r"(\d+:)?\d\d:\d\d", show_clock(seconds))
    assert show_clock(seconds) == said


def test_until_a_trial_has_ended_rungs_tell_that_something_is_going_on() -> None:
    first = record().trials[0]
    reported = TrialReported(replace(first, curve=first.curve[:1], outcome=None, status=Status.TRAINING))
    standing = Standing(0.0).after(Begun(begun()), 1.0)
    (line,) = lines(reported, standing.after(reported, 2.0), 2.0)
    assert re.fullmatch(r"00:02 #1 has accuracy 0\.\d+ after \d+% of its training", line)
    standing = standing.after(TrialEnded(first), 3.0)
    assert lines(reported, standing.after(reported, 4.0), 4.0) == ()
