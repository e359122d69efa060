"""What confirmations say of a front: how accurate each member is, who is ahead of whom, who belongs on the front.

Pure. Two things make an accuracy uncertain: which rows happen to be in the split, and the seed of the training. Rows
are shared by all members, so their part is the covariance of the members' answers over rows; that of the seeds is
estimated from all members together, because two or three seeds say little alone. From both, plausible true accuracies
of all members are drawn together (a normal distribution, wider tails where seeds are few). A difference must also
stand in McNemar's exact test, which holds for few rows. Not corrected for several comparisons.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

import numpy as np

from autopeft.fronts import front
from autopeft.trial import Answers, Confirmation, SearchRecord, Status, Trial

LEVEL = 0.05
"""Differences that chance explains with less than this probability are told apart."""
DRAWS = 20_000


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
    """Probability that no other confirmed member that costs no more is as accurate."""


@dataclass(frozen=True)
class Neighbours:
    """Two members next to each other in accuracy."""

    ahead: int
    """Number of the more accurate trial."""
    behind: int
    difference: float
    low: float
    """The lower end of the difference's 95 % interval."""
    high: float
    p: float
    """Probability of so large a difference, either way, if both were equally accurate."""

    @property
    def apart(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True)
class Confirmed:
    """What is known of a front that was trained again."""

    members: tuple[Member, ...]
    """The most accurate first, on the split that decides."""
    neighbours: tuple[Neighbours, ...]
    split: str
    """`test`, or `validation` where there is no test split."""
    rows: int
    seeds: int
    """The most seeds that a member was trained with."""
    excess: float
    """By how much the search's scores exceed the confirmed accuracies on the same validation rows, on average."""
    of_earlier_steps: int = 0
    """How many of the trainings judged an earlier step than the last one, which flatters them."""


def judges_what_ships(trial: Trial, confirmation: Confirmation) -> bool:
    """Whether a confirmation finished, and judged the last step of its training, as the search scores and ships it.

    Earlier versions let the best of three rungs on validation data answer, and kept its step.
    """
    return confirmation.status is Status.FINISHED and not _judges_an_earlier_step(trial, confirmation)


def confirmed(record: SearchRecord) -> Confirmed | None:
    """What the confirmations of the front's members say; None where no confirmation of one finished."""
    trials, done, failed = [], [], []
    members = front(record.trials, record.plan.objectives)
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
    right = [np.stack([unpacked(each) for each in mine]) for mine in answers]
    drawn = draw(right)
    on_front = probabilities_on_front(drawn, trials, record.plan.objectives)
    summed_up = [
        Member(trial, lost, _spread(seen), _spread(unseen) if tested else None, float(probability))
        for trial, lost, seen, unseen, probability in zip(trials, failed, validation, test, on_front, strict=True)
    ]
    accuracies = [_spread(mine).mean for mine in answers]
    order = sorted(range(len(trials)), key=lambda i: (-accuracies[i], trials[i].predicted.trainable, trials[i].number))
    return Confirmed(
        tuple(summed_up[i] for i in order),
        tuple(
            compare(trials[i].number, trials[j].number, right[i], right[j], drawn[:, i] - drawn[:, j])
            for i, j in pairwise(order)
        ),
        "test" if tested else "validation",
        answers[0][0].rows,
        max(len(mine) for mine in done),
        sum((member.trial.accuracy or 0.0) - member.validation.mean for member in summed_up) / len(summed_up),
        sum(_judges_an_earlier_step(trial, each) for trial, mine in zip(trials, done, strict=True) for each in mine),
    )


def _comparable(confirmations: Iterable[Confirmation]) -> list[Confirmation]:
    """Those that answered every validation row, and as many rows as most of them."""
    whole = [each for each in confirmations if each.validation is not None and each.validation.are_whole]
    usual = Counter(each.validation.rows for each in whole if each.validation).most_common(1)
    return [each for each in whole if each.validation and each.validation.rows == usual[0][0]]


def _judges_an_earlier_step(trial: Trial, confirmation: Confirmation) -> bool:
    return bool(trial.curve) and confirmation.step < trial.curve[-1].steps


def unpacked(answers: Answers) -> np.ndarray:
    """(rows,) bool: which rows were answered rightly."""
    return np.unpackbits(np.frombuffer(answers.right, dtype=np.uint8), count=answers.rows).astype(bool)


def draw(right: Sequence[np.ndarray]) -> np.ndarray:
    """(draws, members) accuracies that may be the true ones, given each member's (seeds, rows) right answers.

    Their median is about the observed accuracy. As if every pair of members differed on one row more than it
    does, so that nothing is certain. With a single seed each, only the choice of rows counts.
    """
    rng = np.random.default_rng(0)
    of_rows = np.stack([mine.mean(0) for mine in right])
    members, rows = of_rows.shape
    covariance = np.atleast_2d(np.cov(of_rows, bias=True)) / rows + np.eye(members) / (2 * rows**2)
    shared = rng.standard_normal((DRAWS, members)) @ np.linalg.cholesky(covariance).T
    drawn: np.ndarray = of_rows.mean(1) + shared + _of_seeds(right, rng)
    return drawn


def _of_seeds(right: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(draws, members) what the seeds may have added: a t distribution, its variance from all members together."""
    accuracies = [mine.mean(1) for mine in right]
    freedom = sum(len(each) - 1 for each in accuracies)
    noise = rng.standard_normal((DRAWS, len(right)))
    if freedom == 0:
        return np.zeros_like(noise)
    squares = sum(float(np.square(each - each.mean()).sum()) for each in accuracies)
    variance = squares / rng.chisquare(freedom, (DRAWS, 1))
    scaled: np.ndarray = noise * np.sqrt(variance / [len(each) for each in accuracies])
    return scaled


def probabilities_on_front(drawn: np.ndarray, trials: Sequence[Trial], objectives: Sequence[str]) -> np.ndarray:
    """(members,) how often no other member that costs no more is as accurate; costs are known exactly."""
    costs = [[trial.value(name) for name in objectives if name != "accuracy"] for trial in trials]
    beaten = np.zeros(drawn.shape, dtype=bool)
    if "accuracy" in objectives:
        for i, mine in enumerate(costs):
            for j, theirs in enumerate(costs):
                if i != j and all(their <= my for my, their in zip(mine, theirs, strict=True)):
                    beaten[:, i] |= drawn[:, j] >= drawn[:, i]
    found: np.ndarray = 1 - beaten.mean(0)
    return found


def compare(ahead: int, behind: int, right: np.ndarray, other: np.ndarray, differences: np.ndarray) -> Neighbours:
    """Two trials by their (seeds, rows) right answers and the drawn differences of their accuracies.

    McNemar's test counts a row for the member that answers it rightly with more of its seeds.
    """
    of_rows = right.mean(0) - other.mean(0)
    difference = float(right.mean() - other.mean())
    low, high = np.quantile(differences, (0.025, 0.975))
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    by_draws = min(1.0, 2 * (beyond + 1) / (len(differences) + 1))
    exact = mcnemar(int((of_rows > 0).sum()), int((of_rows < 0).sum()))
    return Neighbours(ahead, behind, difference, float(low), float(high), max(by_draws, exact))


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
    return Spread(tuple(each.accuracy for each in answers))
