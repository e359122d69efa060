"""What confirmations say of a front: how good each member is, who is ahead of whom, who belongs on the front.

Pure. Two things make a score uncertain: which rows happen to be in the split, and the seed of the training. Rows are
shared by all members, so their part is the covariance over rows of what rows are worth to the members; that of the
seeds is estimated from all members together, because two or three seeds say little alone. From both, plausible true
scores of all members are drawn together (a normal distribution, wider tails where seeds are few). A difference must
also stand when the signs of the rows' differences are left to chance, which holds for few rows. Not corrected for
several comparisons. Inside, scores and values of rows have the metric's sign, so that more is better.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from autopeft.fronts import front
from autopeft.notebooks import Shown
from autopeft.objectives import ACCURACY, Objective, cost_names
from autopeft.trial import Answers, Confirmation, SearchRecord, Status, Trial

Array = NDArray[np.float64]

LEVEL = 0.05
"""Differences that chance explains with less than this probability are told apart."""
DRAWS = 20_000
_FLIPS = 4_000
_MANY = 100
"""Rows that differ alike, from which on their sum is as good as normal."""


@dataclass(frozen=True)
class Spread:
    """One number from several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds; None of a single one, and not a number where a value is none."""
        if not all(math.isfinite(value) for value in self.values):
            return math.nan
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Member:
    """A member of the front with its confirmations."""

    trial: Trial
    failed: int
    """How many of its confirmations came to nothing that can be compared."""
    validation: Spread
    test: Spread | None
    """None where there is no test split."""
    on_front: float
    """Probability that no other confirmed member that costs no more is as good."""


@dataclass(frozen=True)
class Neighbours:
    """Two members next to each other in score."""

    ahead: int
    """Number of the better trial."""
    behind: int
    difference: float
    """By how much better it is, whichever way the metric goes."""
    low: float
    """The lower end of the difference's 95 % interval."""
    high: float
    p: float
    """Probability of so large a difference, either way, if both were equally good."""

    @property
    def apart(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True)
class Confirmed(Shown):
    """What is known of a front that was trained again."""

    members: tuple[Member, ...]
    """The best first, on the split that decides."""
    neighbours: tuple[Neighbours, ...]
    split: str
    """`test`, or `validation` where there is no test split."""
    rows: int
    seeds: int
    """The most seeds that a member was trained with."""
    excess: float | None
    """By how much better the search's scores are than the confirmed ones on the same validation rows, on average over
    members that the search trained whole; None where there is none."""
    of_earlier_steps: int = 0
    """How many of the trainings judged an earlier step than the last one, which flatters them."""
    metric: Objective = ACCURACY
    """What scores are."""

    def __repr__(self) -> str:
        best = self.members[0].trial.number
        return (
            f"<Confirmed: {len(self.members)} of the front by at most {self.seeds} seeds on {self.rows:,} {self.split} "
            f"rows, trial {best} ahead>"
        )


def judges_what_ships(trial: Trial, confirmation: Confirmation) -> bool:
    """Whether a confirmation finished, and judged the last step of its training, as the search scores and ships it.

    Earlier versions let the best of three rungs on validation data answer, and kept its step.
    """
    return confirmation.status is Status.FINISHED and not _judges_an_earlier_step(trial, confirmation)


def confirmed(record: SearchRecord) -> Confirmed | None:
    """What the confirmations of the front's members say; None where no confirmation of one finished."""
    trials, done, failed = [], [], []
    members = front(record.trials, record.objectives)
    numbers = {trial.number for trial in members}
    comparable = _comparable(each for each in record.confirmations if each.number in numbers)
    for trial in members:
        mine = [each for each in record.confirmations if each.number == trial.number]
        if finished := [each for each in comparable if each.number == trial.number]:
            trials.append(trial)
            done.append(finished)
            failed.append(len(mine) - len(finished))
    if not trials:
        return None
    validation = [[each.validation for each in mine if each.validation] for mine in done]
    test = [[each.test for each in mine if each.test and each.test.are_whole] for mine in done]
    tested = [len(mine) for mine in test] == [len(mine) for mine in done]
    tested = tested and len({each.rows for mine in test for each in mine}) == 1
    answers = test if tested else validation
    sign = record.metric.sign
    values = [sign * np.stack([each.of_rows for each in mine]) for mine in answers]
    drawn = draw(values, unit_of(values, record.metric))
    on_front = probabilities_on_front(drawn, trials, record.objectives)
    summed_up = [
        Member(trial, lost, _spread(seen), _spread(unseen) if tested else None, float(probability))
        for trial, lost, seen, unseen, probability in zip(trials, failed, validation, test, on_front, strict=True)
    ]
    scores = [sign * _spread(mine).mean for mine in answers]
    gains = [(each.trial.score or 0.0) - each.validation.mean for each in summed_up if each.trial.share >= 1]
    order = sorted(range(len(trials)), key=lambda i: (-scores[i], trials[i].predicted.trainable, trials[i].number))
    return Confirmed(
        tuple(summed_up[i] for i in order),
        tuple(
            compare(trials[i].number, trials[j].number, values[i], values[j], drawn[:, i] - drawn[:, j])
            for i, j in pairwise(order)
        ),
        "test" if tested else "validation",
        answers[0][0].rows,
        max(len(mine) for mine in done),
        sign * sum(gains) / len(gains) if gains else None,
        sum(_judges_an_earlier_step(trial, each) for trial, mine in zip(trials, done, strict=True) for each in mine),
        record.metric,
    )


def _comparable(confirmations: Iterable[Confirmation]) -> list[Confirmation]:
    """Those that answered every validation row, and as many rows as most of them."""
    whole = [each for each in confirmations if each.validation is not None and each.validation.are_whole]
    usual = Counter(each.validation.rows for each in whole if each.validation).most_common(1)
    return [each for each in whole if each.validation and each.validation.rows == usual[0][0]]


def _judges_an_earlier_step(trial: Trial, confirmation: Confirmation) -> bool:
    return bool(trial.curve) and confirmation.step < trial.curve[-1].steps


def unit_of(values: Sequence[Array], metric: Objective) -> float:
    """How much one row's answer may change what it is worth: 1 where a row is right or wrong."""
    return 1.0 if metric.is_fraction else 2 * float(np.concatenate(values).std())


def draw(values: Sequence[Array], unit: float = 1.0) -> Array:
    """(draws, members) scores that may be the true ones, given what rows are worth to each member's (seeds, rows).

    Their median is about the observed score. As if every pair of members differed on one row more than it does, by
    `unit`, so that nothing is certain. With a single seed each, only the choice of rows counts.
    """
    rng = np.random.default_rng(0)
    of_rows = np.stack([mine.mean(0) for mine in values])
    members, rows = of_rows.shape
    more = (unit**2 or 1.0) / (2 * rows**2)
    covariance = np.atleast_2d(np.cov(of_rows, bias=True)) / rows + more * np.eye(members)
    shared = rng.standard_normal((DRAWS, members)) @ np.linalg.cholesky(covariance).T
    drawn: Array = of_rows.mean(1) + shared + _of_seeds(values, rng)
    return drawn


def _of_seeds(values: Sequence[Array], rng: np.random.Generator) -> Array:
    """(draws, members) what the seeds may have added: a t distribution, its variance from all members together."""
    scores = [mine.mean(1) for mine in values]
    freedom = sum(len(each) - 1 for each in scores)
    noise = rng.standard_normal((DRAWS, len(values)))
    if freedom == 0:
        return np.zeros_like(noise)
    squares = sum(float(np.square(each - each.mean()).sum()) for each in scores)
    variance = squares / rng.chisquare(freedom, (DRAWS, 1))
    scaled: Array = noise * np.sqrt(variance / [len(each) for each in scores])
    return scaled


def probabilities_on_front(drawn: Array, trials: Sequence[Trial], objectives: Sequence[Objective]) -> Array:
    """(members,) how often no other member that costs no more is as good; costs are known exactly."""
    costs = [[trial.value(name) for name in cost_names(objectives)] for trial in trials]
    beaten = np.zeros(drawn.shape, dtype=bool)
    if any(each.is_score for each in objectives):
        for i, mine in enumerate(costs):
            for j, theirs in enumerate(costs):
                if i != j and all(their <= my for my, their in zip(mine, theirs, strict=True)):
                    beaten[:, i] |= drawn[:, j] >= drawn[:, i]
    found: Array = 1 - beaten.mean(0)
    return found


def compare(ahead: int, behind: int, values: Array, other: Array, differences: Array) -> Neighbours:
    """Two trials by what (seeds, rows) are worth to each, and by the drawn differences of their scores."""
    difference = float(values.mean() - other.mean())
    low, high = np.quantile(differences, (0.025, 0.975))
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    by_draws = min(1.0, 2 * (beyond + 1) / (len(differences) + 1))
    by_signs = sign_flips(values.mean(0) - other.mean(0))
    return Neighbours(ahead, behind, difference, float(low), float(high), max(by_draws, by_signs))


def sign_flips(differences: Array) -> float:
    """The two-sided probability of a sum so far from 0, where each row's difference might as well have the other sign.

    Exact where all rows that differ do so alike: there it is McNemar's test. Else by chance, or by a normal
    distribution where no few rows decide. (R. Fisher, The Design of Experiments, 1935, chapter III.)
    """
    largest = float(np.abs(differences).max(initial=0.0))
    differences = differences[np.abs(differences) > 1e-6 * largest]
    if len(differences) == 0:
        return 1.0
    sizes = np.abs(differences)
    if sizes.min() > largest * (1 - 1e-6):
        return mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    sizes /= largest
    squares, off = float(sizes @ sizes), abs(float(differences.sum())) / largest
    if squares >= _MANY:
        return math.erfc(off / math.sqrt(2 * squares))
    flipped = 2 * np.concatenate([signs @ sizes for signs in _coins(len(sizes))]) - sizes.sum()
    return float((np.count_nonzero(np.abs(flipped) >= off - 1e-9) + 1) / (_FLIPS + 1))


def _coins(rows: int) -> Iterator[NDArray[np.uint8]]:
    """_FLIPS times a 0 or a 1 for each row, a part at a time."""
    random, part = np.random.default_rng(0), (_FLIPS // 40, -(-rows // 8))
    for _ in range(40):
        yield np.unpackbits(random.integers(0, 256, part, dtype=np.uint8), axis=1, count=rows)


def mcnemar(one: int, other: int) -> float:
    """The exact two-sided probability of counts so uneven, where each of one + other rows falls to either side alike.

    Q. McNemar, Psychometrika 12, 1947; the binomial test of discordant pairs.
    """
    rows, fewer = one + other, min(one, other)
    everything = math.lgamma(rows + 1) - rows * math.log(2)
    tail = math.fsum(
        math.exp(everything - math.lgamma(count + 1) - math.lgamma(rows - count + 1)) for count in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def _spread(answers: Sequence[Answers]) -> Spread:
    return Spread(tuple(each.score for each in answers))
