"""The main job: from a plan to a front. This file only joins the steps, each of which lives elsewhere."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autopeft import artifacts
from autopeft.backbone.load import Backbone, load_backbone, load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.errors import AutopeftError
from autopeft.events import BaselinesKnown, Begun, Doing, Ended, Event
from autopeft.fronts import front, select
from autopeft.methods.registry import configured_parts
from autopeft.plan import Budget, Plan, Resources
from autopeft.search.driver import Driver
from autopeft.search.feasible import require_something_fits
from autopeft.search.orchestrator import train_here, train_on_ray
from autopeft.search.proposer import Proposer, default_params
from autopeft.search.worker import Job
from autopeft.space.space import Space, load_space
from autopeft.storage.repository import Repository
from autopeft.tasks.base import task_named
from autopeft.tasks.data import TaskData, understand
from autopeft.tasks.tokenized import open_split, tokenize
from autopeft.training.probe import fit_probe
from autopeft.trial import Baselines, SearchRecord, Trial

_VERSIONED = ("autopeft", "torch", "transformers", "peft", "optuna", "ray")


class Search:
    """A search, running or finished: what the database remembers of it, and the answers to be had from it."""

    def __init__(self, name: str, storage: str = Resources.storage) -> None:
        self.name = name
        self._storage = storage
        self._record = self._load()

    def refresh(self) -> "Search":
        """Reads the database again, for a search that is still running elsewhere."""
        self._record = self._load()
        return self

    @property
    def record(self) -> SearchRecord:
        """Everything remembered, as frozen values."""
        return self._record

    @property
    def plan(self) -> Plan:
        return self._record.plan

    @property
    def trials(self) -> tuple[Trial, ...]:
        return self._record.trials

    @property
    def front(self) -> tuple[Trial, ...]:
        """The non-dominated trials, over the plan's objectives."""
        return front(self.trials, self.plan.objectives)

    def trial(self, number: int) -> Trial:
        """One trial by its number. Raises AutopeftError."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise AutopeftError(f"search '{self.name}' has no trial {number}; it has {len(self.trials)}, numbered from 1.")

    def select(self, *, prefer: str = "accuracy", **limits: Any) -> Trial:
        """The best trial under limits such as `memory="6GiB", trainable=500_000, accuracy_at_least=0.8`.

        Raises AutopeftError that says which limit excludes all, and what the nearest trial needs.
        """
        budget = Budget(**limits).resolved(int(self.record.facts["backbone_parameters"]))
        return select(self.trials, budget, prefer=prefer)

    def export(self, number: int, to: str | Path, merge: bool = False) -> Path:
        """Writes a trial's trained weights to a new folder, from where `autopeft.load` and, for peft's methods, peft read them."""
        outcome = self.trial(number).outcome
        if outcome is None or not outcome.artifact:
            raise AutopeftError(f"trial {number} has no trained weights: it is {self.trial(number).status.value}.")
        return artifacts.export(outcome.artifact, to, merge)

    def study(self) -> Any:
        """An Optuna study that holds this search's trials, for its plots and importances."""
        space = load_space(self.plan.space).only(self.plan.methods)
        proposer = Proposer(_as_searched(space, self._record), self.plan.objectives, self.plan.sampler, self.plan.seed)
        for trial in self.trials:
            if trial.outcome is not None:
                proposer.recall(trial)
        return proposer.study

    def _load(self) -> SearchRecord:
        with Repository(self._storage) as repository:
            return repository.load(self.name)


def search(
    plan: Plan | None = None, /, *, name: str | None = None, on_event: Callable[[Event], None] | None = None, **settings: Any
) -> Search:
    """Searches, and returns when the limits of the plan are reached.

    >>> search(model="…", data="train.csv", budget=Budget(memory="8GiB"), trials=60)

    Settings are the fields of `Plan` (unless a plan is given) and of `Resources`. Ctrl-C raises KeyboardInterrupt and leaves a search that
    `resume` goes on with. Raises AutopeftError.
    """
    of_resources = {each.name for each in fields(Resources)}
    resources = Resources(**{key: value for key, value in settings.items() if key in of_resources})
    of_plan = {key: value for key, value in settings.items() if key not in of_resources}
    plan = _rooted(Plan.from_dict(of_plan) if plan is None else replace(plan, **of_plan))
    with Repository(resources.storage) as repository:
        name = name or _new_name(plan, repository.names())
        record = SearchRecord(name, plan, datetime.now(UTC))
        repository.require_free(name)
        _run(record, resources, repository, on_event or _nobody, new=True)
    return Search(name, resources.storage)


def resume(name: str, *, on_event: Callable[[Event], None] | None = None, **resources: Any) -> Search:
    """Goes on with an interrupted search: finished trials are kept, unfinished ones are trained again. Raises AutopeftError."""
    where = Resources(**resources)
    with Repository(where.storage) as repository:
        record = repository.load(name)
        if record.ended is not None:
            raise AutopeftError(f"search '{name}' reached its limits already; see `autopeft report {name}`.")
        _run(record, where, repository, on_event or _nobody, new=False)
    return Search(name, where.storage)


def open_search(name: str, storage: str = Resources.storage) -> Search:
    """A search by name, running or finished. Raises AutopeftError."""
    return Search(name, storage)


def _run(
    record: SearchRecord, resources: Resources, repository: Repository, tell: Callable[[Event], None], new: bool
) -> None:
    plan = record.plan
    folder = Path(resources.folder).absolute()
    tell(Doing("reading the data"))
    data = understand(plan.data, plan.text, plan.label, plan.task, plan.seed)
    tell(Doing("loading the backbone"))
    backbone = load_backbone(plan.model)
    tell(Doing("tokenizing"))
    tokenized = tokenize(data, backbone.tokenizer, plan.max_length, folder / "data")
    train_split = open_split(tokenized, "train")
    tell(Doing("fitting the space to backbone and budget"))
    longest = min(plan.max_length, -(-int(train_split.lengths.max()) // 8) * 8)
    space = load_space(plan.space).only(plan.methods)
    predictor = Predictor(load_skeleton(plan.model), space.cards, len(data.labels), longest)
    space = space.fitted(predictor.refusal)
    limits = plan.budget.resolved(backbone.parameters).limits()
    require_something_fits(space, limits, predictor.predict, f"the space '{space.name}'")
    facts = _facts(data, backbone, longest, space, resources)
    if new:
        record = replace(record, facts=facts)
        repository.create(record)
    tell(Begun(record))
    tell(Doing("measuring the linear probe"))
    record = replace(record, baselines=_baselines(data, backbone, tokenized, folder))
    assert record.baselines is not None
    repository.update(record.name, baselines=record.baselines)
    tell(BaselinesKnown(record.baselines))

    proposer = Proposer(space, plan.objectives, plan.sampler, plan.seed)
    for trial in record.trials:
        if trial.outcome is not None:
            proposer.recall(trial)
    if not record.trials:
        for kind in (*space.methods, *space.hybrids):
            proposer.begin_with(default_params(space, kind))
    job = Job(
        plan.model,
        artifacts.Description(plan.model, data.task, data.labels, data.columns.text, plan.max_length),
        tokenized,
        _probe_file(data, backbone, folder),
        folder / record.name,
        space.cards,
    )
    driver = Driver(record, limits, proposer, predictor.predict, repository, tell)
    try:
        if resources.workers == 0:
            train_here(driver, job)
        else:
            train_on_ray(
                driver,
                job,
                workers=resources.workers,
                gpus_per_trial=resources.gpus_per_trial,
                address=resources.address,
            )
    except KeyboardInterrupt:
        tell(Ended(repository.load(record.name), interrupted=True))
        raise
    repository.update(record.name, ended=datetime.now(UTC))
    tell(Ended(repository.load(record.name)))


def _baselines(data: TaskData, backbone: Backbone, tokenized: Path, folder: Path) -> Baselines:
    """The reference points; the probe is kept on disk, because heads start from it."""
    train_split, validation = open_split(tokenized, "train"), open_split(tokenized, "validation")
    task = task_named(data.task, data.labels)
    probe = fit_probe(backbone.model, task, train_split, validation, "mean", _probe_file(data, backbone, folder))
    return Baselines(task.majority(train_split.labels, validation.labels), probe.accuracy)


def _probe_file(data: TaskData, backbone: Backbone, folder: Path) -> Path:
    return folder / "data" / f"probe-{data.fingerprint[:16]}-{backbone.fingerprint[:16]}.npz"


def _facts(data: TaskData, backbone: Backbone, longest: int, space: Space, resources: Resources) -> Mapping[str, Any]:
    return {
        "data": list(data.described()),
        "data_fingerprint": data.fingerprint,
        "labels": list(data.labels),
        "train_rows": len(data.splits["train"].labels),
        "validation_rows": len(data.splits["validation"].labels),
        "backbone": backbone.name,
        "backbone_parameters": backbone.parameters,
        "batch_length": longest,
        "refused": dict(space.refused),
        "methods": list(space.methods),
        "hybrids": list(space.hybrids),
        "pairs": sorted(sorted(pair) for pair in space.pairs or ()),
        "workers": resources.workers,
        "versions": {name: version(name) for name in _VERSIONED},
    }


def _as_searched(space: Space, record: SearchRecord) -> Space:
    """The space as it was fitted when the search began, without probing the backbone again."""
    return replace(
        space,
        methods=tuple(record.facts["methods"]),
        hybrids={name: space.hybrids[name] for name in record.facts["hybrids"]},
        pairs=frozenset(frozenset(pair) for pair in record.facts["pairs"]),
    )


def _rooted(plan: Plan) -> Plan:
    """The plan with local paths made absolute, so that it means the same from anywhere."""
    local = {name: getattr(plan, name) for name in ("model", "data", "space") if Path(getattr(plan, name)).exists()}
    return replace(plan, **{name: str(Path(path).absolute()) for name, path in local.items()})


def _new_name(plan: Plan, taken: tuple[str, ...]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", Path(plan.data).stem.lower()).strip("-") or "search"
    name = base = f"{stem}-{datetime.now():%Y%m%d-%H%M}"
    number = 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _nobody(_: Event) -> None:
    """Listens to events when nobody else does."""
