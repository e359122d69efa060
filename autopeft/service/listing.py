"""All searches, those of the queue and those that command lines began, in one list."""

from datetime import UTC, datetime

from autopeft.errors import unknown_search
from autopeft.service.office import Office
from autopeft.service.shapes import Shown
from autopeft.storage.queue import RUNNING, Entry
from autopeft.storage.repository import Summary


def searches(office: Office) -> list[Shown]:
    """Those that wait in their order, then those of the queue and of command lines, the newest first."""
    known = {each.name: each for each in office.repository.summaries()}
    queued = office.queue.entries()
    of_queue = [_of_queue(each, known.get(each.name), _left(office, each)) for each in queued]
    names = {each.name for each in queued}
    others = [_of_command_line(each) for each in known.values() if each.name not in names]
    waiting = [each for each in of_queue if each.place is not None]
    rest = [each for each in of_queue if each.place is None] + others
    return waiting + sorted(rest, key=lambda each: each.created, reverse=True)


def search(office: Office, name: str) -> Shown:
    """One of them. Raises NoSuchSearch."""
    entry, known = office.entry(name), next(iter(office.repository.summaries(name)), None)
    if entry is not None:
        return _of_queue(entry, known, _left(office, entry))
    if known is None:
        raise unknown_search(name, office.names())
    return _of_command_line(known)


def _left(office: Office, entry: Entry) -> float | None:
    """Seconds that a search may take yet, as it told last."""
    if entry.state != RUNNING or (latest := office.queue.latest(entry)) is None:
        return None
    told = latest.told.get("standing", {}).get("left")
    return None if told is None else max(told - (datetime.now(UTC) - latest.at).total_seconds(), 0.0)


def _of_queue(entry: Entry, known: Summary | None, left: float | None) -> Shown:
    shown = Shown(
        name=entry.name,
        state=entry.state,
        model=entry.plan.model,
        data=entry.plan.data,
        created=entry.created,
        place=entry.place,
        begun_by=entry.begun_by,
        stopping=bool(entry.asked),
        reason=entry.reason,
        left=left,
    )
    return shown if known is None else _with_trials(shown, known)


def _of_command_line(known: Summary) -> Shown:
    state = "ended" if known.ended else "unfinished"
    shown = Shown(name=known.name, state=state, model=known.model, data="", created=known.created)
    return _with_trials(shown, known)


def _with_trials(shown: Shown, known: Summary) -> Shown:
    metric = {"metric": known.metric.name, "higher_is_better": known.metric.higher_is_better}
    best = "-" if known.best is None else f"{known.metric.heading} {known.metric.show(known.best)}"
    return shown.model_copy(update={"trials": known.trials, "best": known.best, "shown": best, **metric})
