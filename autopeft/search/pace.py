"""How long a worker takes until a candidate has reached its first rung, by what this search has measured. Pure.

Seconds go by floating-point operations, which methods use at very different speeds: a method's own trials tell its
speed, and where it has none, those of all others do.
"""

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from autopeft.space.candidate import Candidate
from autopeft.training.loop import RUNGS, rung_steps, steps_of
from autopeft.trial import Costs, Trial


def seconds_to_first_rung(trials: Iterable[Trial], rows: int, candidate: Candidate, costs: Costs) -> float | None:
    """Of a candidate, set-up included, after these trials on so many training rows; None where none has reached a rung
    yet.
    """
    speeds, set_ups = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for trial in trials:
        if trial.curve and trial.predicted.flops > 0:
            last = trial.curve[-1]
            speeds[trial.candidate.name].append(last.seconds / (last.step * trial.predicted.flops))
        if trial.outcome is not None and "set_up_seconds" in trial.outcome.facts:
            set_ups[trial.candidate.name].append(trial.outcome.facts["set_up_seconds"])
    known = speeds.get(candidate.name) or [each for of_one in speeds.values() for each in of_one]
    if not known:
        return None
    steps = rung_steps(steps_of(candidate.training, rows), RUNGS)[0]
    return median(known) * steps * costs.flops + median(set_ups.get(candidate.name, [0.0]))
