"""What a record says, worked out once for all formats: front, knee, how trials ended, what to be careful about."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from autopeft.confirmed import Confirmed, confirmed
from autopeft.errors import AutopeftError
from autopeft.fronts import front, hypervolume, knee
from autopeft.objectives import COSTS, SCORE, Objective, show
from autopeft.plan import Plan
from autopeft.reports.gains import ERRORS, better
from autopeft.reports.wording import capital, numbers, plural, show_setting, so_far, why
from autopeft.sizes import Share, show_milliseconds, show_seconds
from autopeft.trial import ASKED, Baseline, SearchRecord, Status, Trial


@dataclass(frozen=True)
class Best:
    """How one method or hybrid did."""

    name: str
    trials: int
    """How many were tried."""
    failed: int
    best: Trial | None
    """Its model of the best score."""


@dataclass(frozen=True)
class Findings:
    """What there is to say about a search."""

    metric: Objective
    """What scores are."""
    costs: tuple[Objective, ...]
    """Columns to show beside the score: the default objectives, and those that the plan asks for or limits."""
    front: tuple[Trial, ...]
    """Non-dominated trials, the best score first."""
    baseline: tuple[str, Baseline] | None
    """The best of what needs no fine-tuning, with its name; None where none is known."""
    better: tuple[Trial, ...]
    """Members of the front that beat that baseline by more than chance, in the order of the front."""
    knee: Trial | None
    """The best trade-off among these, where there are at least three."""
    hypervolume: float | None
    """Share of the box between the default reference and the ideal that the front dominates; None without a front."""
    by_status: Mapping[Status, tuple[Trial, ...]]
    failures: Mapping[str, tuple[int, ...]]
    """Numbers of the trials that failed or were lost by reason, the most frequent first."""
    methods: tuple[Best, ...]
    """Every method and hybrid that was tried, the best score first."""
    rows: int | None
    """Rows of validation data, where known."""
    seconds: float | None
    """Wall-clock of the search, where known."""
    confirmed: Confirmed | None
    """What further seeds and the test split say of the front; None where nothing was confirmed."""
    of_task: tuple[str, ...]
    """Training settings that the task has."""

    @property
    def beats_nothing(self) -> str:
        """That nothing on the front is worth its training; empty where something is, or where there is no front."""
        if not self.front or self.better or self.baseline is None:
            return ""
        name, its = self.baseline
        return f"Nothing on the front beats the {name} ({self.score(its)}) by more than chance."

    @property
    def headings(self) -> tuple[str, ...]:
        """Columns of a table of trials: the score and costs."""
        return (self.metric.heading, *(cost.heading for cost in self.costs))

    @property
    def short_headings(self) -> tuple[str, ...]:
        """The same columns where room is scarce."""
        return (self.metric.heading, *(cost.name for cost in self.costs))

    def score(self, of: Trial | Baseline | None) -> str:
        """A score with its standard error, where that is known, and after which part of a training it was."""
        if of is None:
            return "-"
        return self.metric.show_with(of.score, of.error) + (so_far(of) if isinstance(of, Trial) else "")

    @property
    def models(self) -> tuple[Trial, ...]:
        """The trials that the front was picked out of."""
        return tuple(trial for trials in self.by_status.values() for trial in trials if trial.is_model)

    def cells(self, trial: Trial) -> tuple[str, ...]:
        """What stands below the headings of a trial."""
        return (self.score(trial), *(cost.show(trial.value(cost.name)) for cost in self.costs))

    def cells_of_baseline(self, baseline: Baseline) -> tuple[str, ...]:
        """The same of a baseline, which trains no parameters."""
        return (self.score(baseline), *("0" if cost.name == "trainable" else "" for cost in self.costs))


def find(record: SearchRecord) -> Findings:
    """Works out what a record says."""
    on_front = sorted(
        front(record.trials, record.objectives),
        key=lambda trial: (-record.metric.sign * (trial.score or 0.0), trial.predicted.trainable, trial.number),
    )
    failed = tuple(trial for trial in record.trials if trial.status.came_to_nothing)
    rows, sure = _rows(record), confirmed(record)
    baseline = next(
        (each for each in baseline_rows(record.baselines, record.metric) if math.isfinite(each[1].score)), None
    )
    worth = better(record, on_front, baseline[1] if baseline else None, rows, sure)
    return Findings(
        record.metric,
        _costs(record.plan),
        tuple(on_front),
        baseline,
        worth,
        knee(worth, record.objectives) if len(worth) >= 3 else None,
        _hypervolume(record) if on_front else None,
        {status: tuple(trial for trial in record.trials if trial.status is status) for status in Status},
        _by_reason(failed),
        _methods(record),
        rows,
        _seconds(record),
        sure,
        record.of_task,
    )


def no_gain(record: SearchRecord, trial: Trial) -> str:
    """That a trial is not worth its training; empty where it is, or where no baseline is known."""
    found = find(record)
    if found.baseline is None or better(record, (trial,), found.baseline[1], found.rows, found.confirmed):
        return ""
    name, its = found.baseline
    return f"It does not beat the {name} ({found.score(its)}), which needs no fine-tuning, by more than chance."


def tally(record: SearchRecord, found: Findings) -> str:
    """One sentence: how trials ended, what was turned away, how long it took."""
    counts = [f"{len(trials)} {status.value}" for status, trials in found.by_status.items() if trials]
    if found.by_status[Status.TRAINING]:
        counts = [*counts[1:], f"{len(found.by_status[Status.TRAINING])} not finished"]
    said = [f"{plural(len(record.trials), 'trial')}{': ' + ', '.join(counts) if counts else ''}"]
    if away := turned_away(record.turned_away):
        said.append(away)
    if found.hypervolume is not None:
        said.append(f"hypervolume of the front {found.hypervolume:.3f}")
    if found.seconds is not None:
        said.append(f"{show_seconds(found.seconds)} of search")
    if record.ended_by_time:
        said.append(f"the search ended because its time of {show_seconds(record.plan.time or 0)} was over")
    return "; ".join(said) + ("." if record.ended else "; the search is running or was interrupted.")


def turned_away(counts: Mapping[str, int]) -> str:
    """`14 candidates turned away before training (memory 12, trainable 2)`; empty when none were."""
    if not (total := sum(counts.values())):
        return ""
    by_limit = ", ".join(f"{limit} {count}" for limit, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"{plural(total, 'candidate')} turned away before training ({by_limit})"


def correction(record: SearchRecord) -> str:
    """What trials that ran out of memory taught the search; empty where none did."""
    known = record.facts.get("memory_correction")
    if not known:
        return ""
    counted = f"what is predicted counts {known['factor']:.3g} times, and " if known["factor"] > 1 else ""
    return (
        f"A trial predicted to need {show('memory', known['ran_out'])} ran out of memory; "
        f"since then {counted}nothing predicted to need as much is trained."
    )


def failure_lines(found: Findings) -> tuple[str, ...]:
    """One line per reason of failure."""
    return tuple(
        f"{numbers(trials).capitalize()} {_how(found, trials)}: {reason}" for reason, trials in found.failures.items()
    )


def knee_line(found: Findings) -> str:
    """What the mark of the knee means; empty where there is none."""
    if found.knee is None:
        return ""
    if found.baseline is None or len(found.better) == len(found.front):
        return "* the knee: the best trade-off between the objectives"
    return f"* the knee: the best trade-off among those that beat the {found.baseline[0]} by more than chance"


def emptiness(record: SearchRecord, found: Findings) -> str:
    """Why there is no front; empty when there is one."""
    if found.front:
        return ""
    if not record.trials:
        away = turned_away(record.turned_away)
        return "No trial was trained" + (f": {away}." if away else "." if record.ended else " yet.")
    if training := found.by_status[Status.TRAINING]:
        return f"No trial has finished yet; {plural(len(training), 'trial')} began."
    ends = [
        f"{plural(len(trials), 'trial')} {_how(found, trials)} ({reason})" for reason, trials in found.failures.items()
    ]
    if stopped := found.by_status[Status.STOPPED]:
        ends.append(f"{plural(len(stopped), 'trial')} stopped early")
    if finished := found.by_status[Status.FINISHED]:
        ends.append(f"{plural(len(finished), 'trial')} finished without numbers that can be compared")
    return f"No trial is on the front: {', '.join(ends)}." if finished else f"No trial finished: {', '.join(ends)}."


def notes(found: Findings) -> tuple[str, ...]:
    """What a reader must know before believing the numbers."""
    if not found.front:
        return ()
    models = found.models
    said = [
        f"{capital(found.metric.heading)} is on validation data"
        + (f" ({found.rows:,} rows)" if found.rows else "")
        + f", from one seed per trial{'' if found.metric.higher_is_better else '; less is better'}."
    ]
    best = max(models, key=lambda trial: found.metric.sign * (trial.score or 0.0), default=None)
    if best is not None and best.error:
        chance = 2 * math.sqrt(2) * best.error
        said.append(
            "± is its standard error; two trials less than about "
            f"{found.metric.show_like(chance, chance)} apart may differ by chance."
        )
    elif best is not None and best.error is not None:
        said.append(
            "To the best trial every row is worth the same: on these rows ± says nothing of how much is chance."
        )
    if len(models) > 1:
        said.append(
            f"The front was picked out of {plural(len(models), 'trial')} on the same rows, "
            "so expect its scores to be a little worse on new data."
        )
    if in_part := tuple(trial.number for trial in found.front if so_far(trial)):
        said.append(
            f"Not trained to the end, because the search stopped them or still trains them: {numbers(in_part)}. Their "
            "scores and weights are those of the part that is told; `autopeft confirm` trains them whole."
        )
    no_better = tuple(trial.number for trial in found.front if trial not in found.better)
    if found.baseline is not None and no_better:
        said.append(
            f"Not better than the {found.baseline[0]}, which needs no fine-tuning, by more than chance "
            f"({ERRORS:g} standard errors of the difference): {numbers(no_better)}."
        )
    if differences := _differences(models):
        said.append(
            "Memory is predicted before training; "
            f"measured on real steps of {plural(len(differences), 'trial')}, it differed by at most "
            f"{100 * max(differences):.1f}%."
        )
    if times := _times(found.by_status[Status.FINISHED]):
        said.append(
            "Brackets behind what a training took hold what was predicted before it; of "
            f"{plural(len(times), 'trial')} half were off by {100 * median(times):.0f}% or less."
        )
    return tuple(said)


def baseline_rows(baselines: Mapping[str, Baseline], metric: Objective) -> tuple[tuple[str, Baseline], ...]:
    """The reference points by name, the better one first; none before they are measured."""

    def order(named: tuple[str, Baseline]) -> float:
        score = named[1].score
        return -metric.sign * score if math.isfinite(score) else math.inf

    return tuple(sorted(baselines.items(), key=order))


def plan_lines(record: SearchRecord) -> tuple[tuple[str, str], ...]:
    """What was asked for, as name and value; limits that were not given are left out."""
    plan, budget, metric = record.plan, record.plan.budget, record.metric
    limits = [
        f"{cost.heading} at most {limit if isinstance(limit, Share) else cost.show(limit)}"
        for name, cost in COSTS.items()
        if (limit := getattr(budget, name)) is not None
    ]
    if budget.latency is not None:
        limits.append(f"latency at most {show_milliseconds(budget.latency)} when selecting")
    if budget.score is not None:
        least = "least" if metric.higher_is_better else "most"
        limits.append(f"{metric.heading} at {least} {budget.score:g} when selecting")
    ends = [plural(plan.trials, "trial")] if plan.trials is not None else []
    ends += [show_seconds(plan.time)] if plan.time is not None else []
    lines = {
        "model": plan.model,
        "data": plan.data,
        "objectives": ", ".join(
            f"{each.heading} ({'more' if each.higher_is_better else 'less'} is better)" for each in record.objectives
        ),
        "budget": ", ".join(limits) or "no limit on costs",
        "search": f"at most {' or '.join(ends)}",
        "space": plan.space + (f", only {', '.join(plan.methods)}" if plan.methods else ""),
        "sampler": f"{plan.sampler}, seed {plan.seed}",
        "longest text": f"{record.facts.get('max_length', plan.max_length)} tokens",
        "weights": "kept of all trials" if plan.keep == "all" else "kept of trials that no other one beats",
    }
    return tuple(lines.items())


def fact_lines(record: SearchRecord) -> tuple[tuple[str, str], ...]:
    """What was found out before the first trial, as name and value; only what is known."""
    facts = record.facts
    parameters = facts.get("backbone_parameters")
    count = f" ({show('trainable', parameters)} parameters)" if isinstance(parameters, int | float) else ""
    begun = facts.get("warm_start")
    lines = {
        "backbone": f"{facts['backbone']}{count}" if "backbone" in facts else "",
        "rows": ", ".join(
            f"{facts[f'{split}_rows']:,} {split}"
            for split in ("train", "validation")
            if isinstance(facts.get(f"{split}_rows"), int)
        ),
        "costs predicted at": f"{facts['batch_length']} tokens" if facts.get("batch_length") is not None else "",
        "warm start": f"{plural(len(begun), 'candidate')} of past searches" if begun is not None else "",
        "device": str(facts.get("device") or ""),
        "workers": str(facts["workers"]) if facts.get("workers") is not None else "",
        "versions": ", ".join(f"{name} {version}" for name, version in dict(facts.get("versions") or {}).items()),
        "cannot attach": "; ".join(
            f"{name}: {show_setting(reason)}" for name, reason in dict(facts.get("refused") or {}).items()
        ),
    }
    return tuple((name, value) for name, value in lines.items() if value)


def _costs(plan: Plan) -> tuple[Objective, ...]:
    wanted = {"memory", "trainable", *plan.objectives}
    wanted |= {name for name in COSTS if getattr(plan.budget, name) is not None}
    return tuple(cost for name, cost in COSTS.items() if name in wanted)


def _hypervolume(record: SearchRecord) -> float:
    """From the trivial baseline, where one is known and there is something better."""
    try:
        trivial = record.trivial
        return hypervolume(record.trials, record.objectives, {} if trivial is None else {SCORE: trivial})
    except AutopeftError:
        return hypervolume(record.trials, record.objectives)


def _rows(record: SearchRecord) -> int | None:
    rows = record.facts.get(ASKED) or record.facts.get("validation_rows")
    return rows if isinstance(rows, int) and 0 < rows < 2**63 else None


def _how(found: Findings, trials: tuple[int, ...]) -> str:
    """`failed`, `lost`: how the trials of these numbers ended."""
    how = [status.value for status, each in found.by_status.items() if any(trial.number in trials for trial in each)]
    return " or ".join(how)


def _by_reason(failed: tuple[Trial, ...]) -> Mapping[str, tuple[int, ...]]:
    groups: dict[str, tuple[int, ...]] = defaultdict(tuple)
    for trial in failed:
        groups[why(trial)] += (trial.number,)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _methods(record: SearchRecord) -> tuple[Best, ...]:
    def order(trial: Trial) -> float:
        return record.metric.sign * (trial.score or 0.0)

    by_name: dict[str, list[Trial]] = defaultdict(list)
    for trial in record.trials:
        by_name[trial.candidate.name].append(trial)
    found = []
    for name, group in by_name.items():
        models = [trial for trial in group if trial.is_model and trial.score is not None]
        best = max(models, key=order, default=None)
        found.append(Best(name, len(group), sum(trial.status is Status.FAILED for trial in group), best))
    return tuple(sorted(found, key=lambda each: (-order(each.best) if each.best else math.inf, each.name)))


def _seconds(record: SearchRecord) -> float | None:
    """As the search counted them, over all its sittings; else from its beginning to its end."""
    counted = record.facts.get("seconds")
    if isinstance(counted, int | float):
        return float(counted)
    return (record.ended - record.created).total_seconds() if record.ended else None


def _times(trials: tuple[Trial, ...]) -> tuple[float, ...]:
    """How far predicted times of trainings were off, as fractions of what they took."""
    return tuple(abs(each.predicted.time / each.seconds - 1) for each in trials if each.predicted.time and each.seconds)


def _differences(trials: tuple[Trial, ...]) -> tuple[float, ...]:
    return tuple(
        abs(trial.outcome.measured.memory / trial.predicted.memory - 1)
        for trial in trials
        if trial.outcome and trial.outcome.measured and trial.outcome.measured.memory and trial.predicted.memory
    )
