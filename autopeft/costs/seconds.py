"""How long a candidate's training takes, predicted from its work, and from what other trainings took here.

A training's seconds are those of its work: FLOPs, bytes and operations, each at a rate. The rates are measured on the
device before there is anything better (`rates.py`); every trial that reached a rung corrects them, also one that was
stopped there, and tells what its methods take beyond that, for their other settings and for mixtures with them. All of
this is one model in logarithms, linear around its best values, in which corrections are expected to be small; what does
not fit counts less. So a figure comes with its error, which is large for a method that is unlike all that was tried.

Before and after its steps a trial attaches, calibrates, is measured and saved: those seconds have corrections of their
own. States of frozen layers that are kept shorten steps. Not covered: what a method computes while it is attached (it
is known after its first trial), and other work on the device, but for what all trials suffer from alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from autopeft.costs.load import Load
from autopeft.costs.rates import USUAL, Rates
from autopeft.costs.work import EVALUATION, FROZEN, SET_UP, STEP, WRITING, Work
from autopeft.costs.writing import Writing
from autopeft.space.candidate import Candidate, Training
from autopeft.trial import Costs, Status, Trial

Array = NDArray[np.float64]
_KINDS = 5
"""Of work: FLOPs, bytes, operations, operations under the meter that measures costs, and whole trials."""
_METERED = 4e-5
"""Seconds of an operation under the meter, expected at first."""
_OF_A_TRIAL = 0.2
"""Seconds of each trial beside everything else, expected at first."""
_LATENCY_PASSES = 18
"""Forward passes on one row that time inference."""
_ALL, _OF_KIND, _OF_METHOD, _OF_SET_UP = 0.5, 0.35, 0.2, 1.5
"""Standard deviations of corrections, in logarithms, expected at first: common to all work, of each kind of work, and
of what a method's steps, and its set-up, take beyond that."""
_NOISE, _NOISE_BESIDE = 0.07, 0.2
"""The same of one training's steps, and of what comes before and after them, by chance."""
_BELIEF = 5
"""Trials that the expected noise counts as."""
_TAILS = 4
"""Degrees of freedom of chance: what lies far off counts little."""
_MOST = 300
"""Trials that are gone by, the latest ones."""
_ROUNDS, _PLAIN_ROUNDS = 8, 4
"""Times that the model is made linear again; in the first of them all trials count in full."""
_NEXT_TO = 1.01
"""States that are kept at this many times the work, at most, are kept at the same layer."""


@dataclass(frozen=True)
class Expected:
    """Seconds with their standard error."""

    seconds: float
    error: float


@dataclass(frozen=True)
class _Seen:
    """What one trial told: the logarithm of some seconds, and the amounts of work that took them."""

    methods: tuple[str, ...]
    amounts: Array
    log_seconds: float
    beside: bool
    """Whether it is about what comes before and after steps."""


class Seconds:
    """Predicts, and learns from trials, in whatever thread."""

    def __init__(self, load: Load, rates: Callable[[], Rates], writing: Writing | None = None) -> None:
        """`rates` measures the device, when a prediction is first asked for; `writing` says how long texts are that
        models are judged by.
        """
        self._writing = writing
        self._asked = 0, 0
        """Prompts at a rung, and at the end."""
        self._load = load
        self._measure = rates
        self._lock = Lock()
        self._seen: list[_Seen] = []
        self._kept: list[float] = []
        """Work of one row in frozen layers, for each depth at which states are kept already."""
        self._fitted: _Fitted | None = None
        self._rates: Rates | None = None

    def asks(self, at_rungs: int, at_the_end: int) -> None:
        """So many prompts are gone on with at every rung but the last, and at that."""
        self._asked = at_rungs, at_the_end

    def __call__(self, candidate: Candidate, costs: Costs) -> float:
        """Seconds of a whole training; infinite where its work is not known."""
        expected = self.expected(candidate, costs)
        return math.inf if expected is None else expected.seconds

    def expected(self, candidate: Candidate, costs: Costs) -> Expected | None:
        """The same with its standard error; None where the work is not known."""
        return self._expected(candidate, costs, self._load.rungs(self._within(candidate).training))

    def usual(self, candidate: Candidate, costs: Costs) -> float:
        """Seconds of a whole training at usual rates, whatever was measured: which of two takes longer, told the same
        every time; infinite where the work is not known.
        """
        rungs = self._load.rungs(self._within(candidate).training)
        expected = self._expected(candidate, costs, rungs, _Fitted(USUAL, []))
        return math.inf if expected is None else expected.seconds

    def to_first_rung(self, candidate: Candidate, costs: Costs) -> float | None:
        """Seconds until it has reached its first rung, and has ended there; None where its work is not known."""
        expected = self._expected(candidate, costs, self._load.rungs(self._within(candidate).training)[:1])
        return None if expected is None else expected.seconds

    def _expected(
        self, candidate: Candidate, costs: Costs, rungs: tuple[int, ...], fitted: "_Fitted | None" = None
    ) -> Expected | None:
        """Of a training that ends with the last of these rungs, by what was learned unless something else is given."""
        if not costs.work:
            return None
        candidate = self._within(candidate)
        methods, steps = _methods(candidate), self._amounts(candidate, costs, rungs[-1], len(rungs))
        with self._lock:
            fitted = fitted or self._fit()
            of_steps = fitted.expected(_Seen(methods, steps, 0.0, beside=False))
            of_rest = fitted.expected(_Seen(methods, self._beside(candidate, costs), 0.0, beside=True))
        return Expected(of_steps.seconds + of_rest.seconds, math.hypot(of_steps.error, of_rest.error))

    def timed(self, candidate: Candidate, costs: Costs) -> Costs:
        """The costs with their `time`, where their work is known; in no more digits than it is worth, so that what
        was predicted at one moment compares with what was predicted at another.
        """
        expected = self.expected(candidate, costs)
        return costs if expected is None else replace(costs, time=float(f"{expected.seconds:.1e}"))

    def learn(self, trial: Trial) -> None:
        """From a trial that reached a rung, once it has ended. One of a record that does not tell its work, or its
        seconds, teaches nothing.
        """
        if not trial.curve or not trial.predicted.work or trial.outcome is None:
            return
        candidate, last = self._within(trial.candidate), trial.curve[-1]
        methods, costs = _methods(candidate), trial.predicted
        with self._lock:
            if last.seconds > 0:
                amounts = self._amounts(candidate, costs, last.step, len(trial.curve))
                self._seen.append(_Seen(methods, amounts, math.log(last.seconds), beside=False))
            rest = trial.outcome.seconds - last.seconds
            if trial.status is Status.FINISHED and rest > 0:
                amounts = self._beside(candidate, costs)
                self._seen.append(_Seen(methods, amounts, math.log(rest), beside=True))
            if trial.outcome.facts.get("kept_states"):
                self._kept.append(_frozen(costs).flops / candidate.training.batch_size)
            self._seen = self._seen[-2 * _MOST :]
            self._fitted = None

    def _within(self, candidate: Candidate) -> Candidate:
        """No batch holds more rows than there are."""
        training = candidate.training
        return replace(candidate, training=replace(training, batch_size=min(training.batch_size, self._load.rows)))

    def _fit(self) -> "_Fitted":
        if self._fitted is None:
            self._rates = self._rates or self._measure()
            self._fitted = _Fitted(self._rates, self._seen)
        return self._fitted

    def _amounts(self, candidate: Candidate, costs: Costs, steps: int, evaluations: int) -> Array:
        """Of so many steps from the beginning, and so many evaluations."""
        training, load = candidate.training, self._load
        size, (long, longest) = training.batch_size, load.longest
        share, (batches, entries) = load.share(size), load.evaluated(training)
        done = _amounts(Work.of(STEP, costs.work), steps, steps * share)
        evaluated_rows = max(1, training.at_once * long // longest)
        of_evaluation = entries / (evaluated_rows * longest)
        done += _amounts(Work.of(EVALUATION, costs.work), evaluations * batches, evaluations * of_evaluation)
        whole = steps >= load.rungs(training)[-1]
        done += self._written(training, costs, evaluations, whole, evaluated_rows * longest)
        frozen = _frozen(costs)
        if frozen.flops:
            of_row = frozen.flops / size
            there = max((each for each in self._kept if each <= _NEXT_TO * of_row), default=0.0) / of_row
            filling = min(steps, load.steps_of_epoch(training)) * (1 - min(there, 1.0))
            evaluated = max(evaluations - 1 + min(there, 1.0), 0.0) * entries / (size * long)
            done -= _amounts(frozen, steps - filling + evaluated, (steps - filling) * share + evaluated)
        floor = np.zeros(_KINDS)
        floor[2] = steps
        return np.maximum(done, floor)

    def _written(self, training: Training, costs: Costs, evaluations: int, whole: bool, evaluated: int) -> Array:
        """Of the texts that are written at so many rungs, the last of them the end of a `whole` training or not; an
        evaluation reads so many entries.
        """
        at_rungs, at_the_end = self._asked
        prompts = at_rungs * (evaluations - whole) + at_the_end * whole
        if self._writing is None or not prompts:
            return np.zeros(_KINDS)
        batches = math.ceil(prompts / self._writing.rows(training.at_once * self._load.longest[0]))
        tokens, read = batches * self._writing.answer, prompts * self._writing.prompt / evaluated
        of_tokens = _amounts(Work.of(WRITING, costs.work), tokens, tokens)
        return of_tokens + _amounts(Work.of(EVALUATION, costs.work), batches, read)

    def _beside(self, candidate: Candidate, costs: Costs) -> Array:
        """Of calibrations, of a step and an evaluation under the meter, of the passes that time inference, and of
        saving."""
        step, evaluation, set_up = (Work.of(stage, costs.work) for stage in (STEP, EVALUATION, SET_UP))
        pieces = candidate.training.batch_size / candidate.training.at_once
        done = _amounts(step, 1 / pieces, 1 / pieces) + _amounts(evaluation, 1, 1)
        done += _amounts(set_up, 1, self._load.share(candidate.training.batch_size))
        done[0] += _LATENCY_PASSES * (costs.inference_flops or 0)
        done[1] += costs.stored
        done[2] += _LATENCY_PASSES * evaluation.operations
        done[3] = step.operations / pieces + evaluation.operations
        done[4] = 1.0
        return done


class _Fitted:
    """What all that was seen says of rates and methods."""

    def __init__(self, rates: Rates, seen: list[_Seen]) -> None:
        self._logs = np.log([rates.flop, rates.byte, rates.operation, _METERED, _OF_A_TRIAL])
        self._methods = {name: at for at, name in enumerate(sorted({name for each in seen for name in each.methods}))}
        count = len(self._methods)
        widths = [_ALL, *[_OF_KIND] * _KINDS, *[_OF_METHOD] * count, *[_OF_SET_UP] * count]
        self._variances: Array = np.square(widths)
        self._best: Array = np.zeros(len(widths))
        self._spread: Array = np.diag(self._variances)
        self._noise = {False: _NOISE**2, True: _NOISE_BESIDE**2}
        if seen:
            self._fit(seen)

    def expected(self, asked: _Seen) -> Expected:
        """Its seconds; a method that was never seen may be off by as much as methods are."""
        logs, slopes = self._at([asked])
        unseen = [name not in self._methods for name in asked.methods]
        own = (_OF_SET_UP if asked.beside else _OF_METHOD) ** 2 * sum(unseen) / len(unseen) ** 2
        variance = float((slopes @ self._spread @ slopes.T)[0, 0]) + own + self._noise[asked.beside]
        seconds = math.exp(float(logs[0]))
        return Expected(seconds, seconds * math.sqrt(math.expm1(min(variance, 10.0))))

    def _fit(self, seen: list[_Seen]) -> None:
        measured = np.array([each.log_seconds for each in seen])
        beside = np.array([each.beside for each in seen])
        weights: Array = np.ones(len(seen))
        for number in range(_ROUNDS):
            logs, slopes = self._at(seen)
            left = measured - logs
            noise = np.where(beside, self._noise[True], self._noise[False])
            if number >= _PLAIN_ROUNDS:
                weights = (_TAILS + 1) / (_TAILS + left**2 / noise)
            weighted = slopes * (weights / noise)[:, None]
            precision = weighted.T @ slopes + np.diag(1 / self._variances)
            self._spread = np.linalg.inv(precision).astype(np.float64)
            self._best = self._spread @ (weighted.T @ (left + slopes @ self._best))
        logs, _ = self._at(seen)
        for kind, expected in ((False, _NOISE), (True, _NOISE_BESIDE)):
            squares = (weights * (measured - logs) ** 2)[beside == kind]
            self._noise[kind] = (_BELIEF * expected**2 + float(squares.sum())) / (_BELIEF + len(squares))

    def _at(self, seen: list[_Seen]) -> tuple[Array, Array]:
        """Logarithms of seconds, and how they change with each correction: (seen,), (seen, corrections)."""
        amounts = np.stack([each.amounts for each in seen])
        count = len(self._methods)
        parts = amounts * np.exp(self._logs + self._best[1 : 1 + _KINDS])
        whole = parts.sum(axis=1)
        slopes = np.zeros((len(seen), len(self._best)))
        slopes[:, 0] = 1.0
        slopes[:, 1 : 1 + _KINDS] = parts / whole[:, None]
        for at, each in enumerate(seen):
            first = 1 + _KINDS + (count if each.beside else 0)
            for name in each.methods:
                if name in self._methods:
                    slopes[at, first + self._methods[name]] += 1 / len(each.methods)
        methods = slopes[:, 1 + _KINDS :] @ self._best[1 + _KINDS :]
        return np.log(whole) + self._best[0] + methods, slopes


def _methods(candidate: Candidate) -> tuple[str, ...]:
    return tuple(part.method for part in candidate.parts)


def _frozen(costs: Costs) -> Work:
    return Work.of(FROZEN, costs.work)


def _amounts(work: Work, times: float, lengths: float) -> Array:
    """Of work that is done so many times, on rows that are together so many times as long as those it is known for."""
    flops = (work.flops - work.flops_of_rows) * times + work.flops_of_rows * lengths
    moved = (work.moved - work.moved_of_rows) * times + work.moved_of_rows * lengths
    return np.array([flops, moved, work.operations * times, 0.0, 0.0])
