"""What a search that is gone on with is to do: its limits, those that it had or others that are not reached yet; or one
trial once more.
"""

from dataclasses import replace

from autopeft.errors import AutopeftError
from autopeft.searching.whereabouts import has_weights
from autopeft.sizes import show_seconds
from autopeft.trial import SearchRecord


def extended(record: SearchRecord, trials: int | None, time: str | float | None) -> SearchRecord:
    """The record under the limits that are given, no longer at its end; as it is where none is given.

    A limit that is not given stays, but for one that was reached: whoever gives the other wants more than that. Raises
    AutopeftError for a limit that is reached already.
    """
    given = {name: value for name, value in (("trials", trials), ("time", time)) if value is not None}
    if not given:
        return record
    plan = replace(record.plan, **given)  # type: ignore[arg-type]
    ended = sum(trial.outcome is not None for trial in record.trials)
    seconds = float(record.facts.get("seconds", 0))
    if trials is not None and plan.trials is not None and plan.trials <= ended:
        had = "a trial" if ended == 1 else f"{ended} trials"
        raise AutopeftError(f"search '{record.name}' has {had} already; give more than that by --trials.")
    if time is not None and plan.time is not None and plan.time <= seconds:
        raise AutopeftError(
            f"search '{record.name}' took {show_seconds(seconds)} already, and --time counts all of it; give more."
        )
    if trials is None and plan.trials is not None and plan.trials <= ended:
        plan = replace(plan, trials=None)
    if time is None and plan.time is not None and (record.ended_by_time or plan.time <= seconds):
        plan = replace(plan, time=None)
    return replace(record, plan=plan, ended=None)


def require_once_more(record: SearchRecord, number: int, trials: int | None, time: str | float | None) -> None:
    """Raises AutopeftError where a trial of a located record is not trained once more, because it came to nothing or
    its weights are there, and where more than that is asked for.
    """
    if trials is not None or time is not None:
        raise AutopeftError("--once-more trains one trial and no others: give it without --trials and --time.")
    trial = next((trial for trial in record.trials if trial.number == number), None)
    if trial is None or trial.outcome is None or not trial.is_model:
        stands = "is not there" if trial is None else f"is {trial.status.value}"
        raise AutopeftError(
            f"trial {number} of search '{record.name}' {stands}; only one that ended with a model is trained once more."
        )
    if has_weights(trial):
        raise AutopeftError(
            f"the weights of trial {number} of search '{record.name}' are there: see `autopeft export`."
        )
