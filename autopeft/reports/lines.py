"""Plain lines for the events of a search: what a log file or a pipe gets to see. Pure functions."""

from collections.abc import Mapping

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
from autopeft.objectives import Objective, show
from autopeft.reports.findings import baseline_rows, turned_away
from autopeft.reports.standing import Standing
from autopeft.reports.wording import describe, first_line, plural, so_far, why
from autopeft.trial import Baseline, Confirmation, SearchRecord, Status, Trial


def lines(event: Event, after: Standing, now: float) -> tuple[str, ...]:
    """The lines for one event, given how the search stands after it; none for an event that nobody would miss."""
    clock = show_clock(after.elapsed(now))
    match event:
        case Doing(what):
            return (f"{clock} {what}",)
        case Begun(record):
            return tuple(f"{clock} {line}" for line in _begun(record, after))
        case BaselinesKnown(baselines):
            return (f"{clock} {show_baselines(baselines, after.metric)}",)
        case TrialBegan(trial):
            return (f"{clock} training #{trial.number} {describe(trial.candidate)}",) if _none_ended(after) else ()
        case TrialReported(trial) if trial.share < 1 and _none_ended(after):
            score = f"{after.metric.heading} {after.metric.show(trial.score)}"
            return (f"{clock} #{trial.number} has {score} after {trial.share:.0%} of its training",)
        case TrialEnded(trial):
            return (f"{show_count_of(after)} {clock} {show_ended(trial, after)}",)
        case GivenAgain(trial, why_again):
            return (f"{clock} #{trial.number} is trained once more: {first_line(why_again)}",)
        case TurnedAway():
            total = sum(after.turned_away.values())
            return (f"{clock} {turned_away(after.turned_away)} so far",) if _is_power_of_ten(total) else ()
        case Confirming(trainings):
            return (f"{clock} training the front again: {plural(trainings, 'training')}",)
        case TrialConfirmed(confirmation):
            done = f"{after.confirmed:{len(str(after.to_confirm))}d}"
            return (f"[{done}/{after.to_confirm}] {clock} {show_confirmed(confirmation, after.metric)}",)
        case Ended():
            return (f"{clock} {_ended(after)}",)
        case _:
            return ()


def _none_ended(standing: Standing) -> bool:
    """Until the first has ended, nothing else says that something is going on."""
    return len(standing.ended) == standing.earlier


def show_clock(seconds: float) -> str:
    """`00:42`, `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"


def show_count_of(standing: Standing) -> str:
    """`[ 3/16]`, or `[ 3]` when only time limits the search."""
    most = standing.plan.trials if standing.plan else None
    if most is None:
        return f"[{len(standing.ended):2d}]"
    return f"[{len(standing.ended):{len(str(most))}d}/{most}]"


def show_baselines(baselines: Mapping[str, Baseline], metric: Objective) -> str:
    """All reference points on one line, the better one first."""
    said = ", ".join(f"{name} {metric.show(each.score)}" for name, each in baseline_rows(baselines, metric))
    return f"{metric.heading}{'' if metric.higher_is_better else ' (less is better)'}: {said}"


def show_ended(trial: Trial, standing: Standing) -> str:
    """A trial that ended, on one line."""
    said = f"#{trial.number} {describe(trial.candidate)}"
    if trial.status.came_to_nothing:
        return f"{said}  {trial.status.value}: {why(trial)}"
    costs = "  ".join(f"{name} {show(name, trial.value(name))}" for name in ("memory", "trainable"))
    early = "  stopped early" if trial.status is Status.STOPPED else ""
    member = "  (front)" if any(each.number == trial.number for each in standing.front) else ""
    score = f"{standing.metric.heading} {standing.metric.show(trial.score)}{so_far(trial)}"
    return f"{said}  {score}  {costs}{early}{member}"


def show_confirmed(confirmation: Confirmation, metric: Objective) -> str:
    """A training of the front again that ended, on one line."""
    said = f"#{confirmation.number} again, seed {confirmation.repeat}:"
    if confirmation.status.came_to_nothing:
        return f"{said} {confirmation.status.value}: {first_line(confirmation.reason)}"
    splits = {"validation": confirmation.validation, "test": confirmation.test}
    return f"{said} " + "  ".join(f"{name} {metric.show(a.score)}" for name, a in splits.items() if a)


def _begun(record: SearchRecord, standing: Standing) -> tuple[str, ...]:
    said = [f"search {record.name}", *(str(line) for line in record.facts.get("data", ()))]
    if standing.earlier:
        said.append(f"going on after {plural(standing.earlier, 'trial')}")
    return tuple(said)


def _ended(standing: Standing) -> str:
    said = ", ".join([f"{plural(len(standing.ended), 'trial')} ended", *standing.failures()])
    said += f", {len(standing.front)} on the front"
    if away := turned_away(standing.turned_away):
        said += f"; {away}"
    return f"{'interrupted' if standing.interrupted else 'done'}: {said}"


def _is_power_of_ten(count: int) -> bool:
    return str(count).rstrip("0") == "1"
