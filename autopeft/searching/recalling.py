"""What a resumed search still knows: the space may have lost methods since, by a removed card or a newer peft.

Trials of what is gone stay in the record and on the front, but teach nothing; unfinished ones fail with the reason.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.searching.proposer import Proposer
from autopeft.space.space import MIXTURE, Space, load_space
from autopeft.trial import Outcome, SearchRecord, Status, Trial


def space_again(plan: Plan) -> Space:
    """The space of a plan as it is now, without those of the plan's methods that are gone. Raises AutopeftError."""
    space = load_space(plan.space)
    held = (*space.methods, *space.hybrids, MIXTURE)
    left = tuple(name for name in plan.methods if name in held)
    if plan.methods and not left:
        raise AutopeftError(f"the space '{plan.space}' holds none of {', '.join(plan.methods)} any more.")
    return space.only(left)


def as_searched(record: SearchRecord) -> Space:
    """The space as it was fitted when the search began, without probing the backbone again."""
    space = space_again(record.plan)
    return replace(
        space,
        methods=tuple(name for name in record.facts["methods"] if name in space.methods),
        hybrids={name: space.hybrids[name] for name in record.facts["hybrids"] if name in space.hybrids},
        training={name: each for name, each in space.training.items() if name in record.facts.get("training", {name})},
        pairs=frozenset(frozenset(pair) for pair in record.facts["pairs"]),
    )


def teach(proposer: Proposer, record: SearchRecord, say: Callable[[str], None]) -> SearchRecord:
    """Tells again of every trial that has an outcome; the record with those failed that cannot be gone on with."""
    forgotten = []
    for trial in record.trials:
        if not (proposer.draws(trial) if trial.outcome is None else proposer.recall(trial)):
            forgotten.append(trial)
    if forgotten:
        names = ", ".join(sorted({trial.candidate.name for trial in forgotten}))
        say(f"the space no longer draws {len(forgotten)} of the trials ({names}): they are kept, and teach nothing")
    gone = {trial.number: _failed(trial) for trial in forgotten if trial.outcome is None}
    return replace(record, trials=tuple(gone.get(trial.number, trial) for trial in record.trials))


def _failed(trial: Trial) -> Trial:
    outcome = Outcome(Status.FAILED, f"not trained again: the space no longer draws '{trial.candidate.name}' like this")
    return replace(trial, status=outcome.status, outcome=outcome, curve=(), finished=datetime.now(UTC))
