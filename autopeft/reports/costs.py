"""What trials cost, predicted before training and measured in it, side by side."""

from collections.abc import Mapping, Sequence

from autopeft.fronts import latency_of
from autopeft.objectives import COSTS, SCORE, TIME, Objective, show
from autopeft.reports.wording import beside, so_far
from autopeft.sizes import show_bytes, show_milliseconds, show_seconds
from autopeft.trial import LATENCY_OF, Trial

_COMPARED = ("trainable", "memory", "flops", TIME)
TOOK = "took"
"""The heading of what `seconds_with` tells."""
HEADINGS = (
    *(COSTS[name].heading for name in _COMPARED),
    *("stored size", "on disk with head", "training rows per second", "latency of {}", "of the bare backbone"),
)


def headings(trials: Sequence[Trial]) -> tuple[str, ...]:
    """`HEADINGS`, which say what latency is of."""
    timed = next((trial for trial in trials if trial.outcome and LATENCY_OF in trial.outcome.facts), None)
    return tuple(each.format(latency_of(timed)) for each in HEADINGS)


def cells(trial: Trial, latency: Mapping[int, float]) -> tuple[str, ...]:
    """What stands below `HEADINGS`, of what was predicted with what was measured on a line of its own; a dash where
    nothing was. `latency` is what limits are held against.
    """
    facts = trial.outcome.facts if trial.outcome else {}
    compared = [f"{show(name, trial.value(name))}\n{show(name, trial.measured(name))}" for name in _COMPARED]
    rest = {
        "bytes_on_disk": show_bytes,
        "examples_per_second": "{:.0f}".format,
        "latency": show_milliseconds,
        "latency_bare": show_milliseconds,
    }
    facts = {**facts, **_latency(trial, latency)}
    told = [write(facts[name]) if name in facts else "-" for name, write in rest.items()]
    return *compared, show("stored", trial.predicted.value("stored")), *told


def lines(trial: Trial, metric: Objective, latency: Mapping[int, float]) -> Sequence[tuple[str, str]]:
    """Every objective of one trial as name and value, with what was measured beside it, and what was only measured."""
    facts = trial.outcome.facts if trial.outcome else {}
    facts = {**facts, **_latency(trial, latency)}
    said = [(metric.heading, metric.show_with(trial.value(SCORE), trial.error) + so_far(trial))]
    said += beside(trial)
    for name, cost in COSTS.items():
        text, own = cost.show(trial.value(name)), trial.measured(name)
        said.append((cost.heading, text if own is None else f"{text} (measured {cost.show(own)})"))
    if trial.predicted.set_up_flops and "set_up_seconds" in facts:
        said.append(("set-up", f"{show_seconds(facts['set_up_seconds'])} on training data before the first step"))
    if facts.get("frozen_layers"):
        why_not = facts.get("states_not_kept")
        kept = f"states not kept: {why_not}" if why_not else f"{show_bytes(facts.get('kept_states', 0))} of states kept"
        said.append(("frozen layers", f"the lowest {facts['frozen_layers']}, without dropout; {kept}"))
    if "latency" in facts and "latency_bare" in facts:
        bare = show_milliseconds(facts["latency_bare"])
        said.append(
            ("latency", f"{show_milliseconds(facts['latency'])} for {latency_of(trial)} (bare backbone {bare})")
        )
    if "examples_per_second" in facts:
        said.append(("training speed", f"{facts['examples_per_second']:.0f} rows per second"))
    if "bytes_on_disk" in facts:
        said.append(("on disk", f"{show_bytes(facts['bytes_on_disk'])} with the head"))
    return said


def seconds_with(trial: Trial) -> str:
    """What a training took, and what was predicted, where that is known."""
    if trial.outcome is None:
        return "-"
    predicted = trial.predicted.time
    told = "" if predicted is None or trial.seconds is None else f" ({show(TIME, predicted)})"
    return show_seconds(trial.outcome.seconds) + told


def _latency(trial: Trial, latency: Mapping[int, float]) -> Mapping[str, float]:
    """The facts of a trial on latency, in the time that the machine needs at most moments."""
    facts = trial.outcome.facts if trial.outcome else {}
    if trial.number not in latency or not facts.get("latency") or "latency_bare" not in facts:
        return {}
    usual = latency[trial.number]
    return {"latency": usual, "latency_bare": facts["latency_bare"] * usual / facts["latency"]}
