"""The main job: from a plan to a front. This file only joins the steps, each of which lives elsewhere."""

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autopeft.confirmed import Confirmed, confirmed
from autopeft.errors import AutopeftError
from autopeft.events import BaselinesKnown, Begun, Doing, Ended, Event
from autopeft.foreign import brief
from autopeft.fronts import front, select
from autopeft.plan import Budget, Plan, Resources
from autopeft.search.confirmation import Confirmer, outstanding, require_same_data
from autopeft.search.confirming import Again
from autopeft.search.driver import Driver
from autopeft.search.finder import Finder, Predict
from autopeft.search.here import train_here
from autopeft.search.ledger import Ledger, Worker
from autopeft.search.places import require_folder
from autopeft.search.portfolio import portfolio
from autopeft.search.preparation import Prepared, prepare
from autopeft.search.proposer import Proposer
from autopeft.search.signals import handler_kept
from autopeft.search.warm_start import past_searches, warm_start
from autopeft.space.space import Space, load_space
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord, Trial

MOST_OF_NAME = 100
"""Bytes of a search's name; names of files, which systems limit, are made of it."""


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
        budget = Budget(**limits).resolved(int(_fact(self._record, "backbone_parameters")))
        return select(self.trials, budget, prefer=prefer)

    def export(self, number: int, to: str | Path, merge: bool = False) -> Path:
        """Writes a trial's trained weights to a new folder, from where `autopeft.load` and, for peft's methods, peft
        read them.
        """
        return self.trial(number).save(to, merge)

    def confirm(self, seeds: int = 3, *, on_event: Callable[[Event], None] | None = None, **resources: Any) -> "Search":
        """Trains every member of the front again with further seeds, at full length, and lets each answer the test
        split once; goes on where an earlier call ended. `resources` are the fields of `Resources`.

        Raises AutopeftError.
        """
        if not isinstance(seeds, int) or seeds < 1:
            raise AutopeftError(f"seeds must be a whole number of at least 1, not '{seeds}'.")
        where = Resources(**{"storage": self._storage, **resources})
        require_folder(where.folder)
        with Repository(where.storage) as repository:
            repository.claim(self.name)
            _confirm(repository.load(self.name), seeds, where, repository, on_event or _nobody)
        return self.refresh()

    @property
    def confirmed(self) -> Confirmed | None:
        """What confirmations say of the front: means and spreads, who is ahead of whom; None before there are any."""
        return confirmed(self._record)

    def study(self) -> Any:
        """An Optuna study that holds this search's trials, for its plots and importances."""
        space = load_space(self.plan.space).only(self.plan.methods)
        proposer = Proposer(_as_searched(space, self._record), self.plan.objectives, self.plan.sampler, self.plan.seed)
        _teach(proposer, self.trials)
        return proposer.study

    def _load(self) -> SearchRecord:
        with Repository(self._storage) as repository:
            return repository.load(self.name)


def search(
    plan: Plan | None = None,
    /,
    *,
    name: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Search:
    """Searches, and returns when the limits of the plan are reached.

    >>> search(model="…", data="train.csv", budget=Budget(memory="8GiB"), trials=60)

    Settings are the fields of `Plan` (unless a plan is given) and of `Resources`. Ctrl-C raises KeyboardInterrupt and
    leaves a search that `resume` goes on with. Raises AutopeftError.
    """
    of_resources = {each.name for each in fields(Resources)}
    resources = Resources(**{key: value for key, value in settings.items() if key in of_resources})
    of_plan = {key: value for key, value in settings.items() if key not in of_resources}
    plan = _rooted(Plan.from_dict(of_plan) if plan is None else replace(plan, **of_plan))
    require_folder(resources.folder)
    with Repository(resources.storage) as repository:
        name = _checked(name) if name else _new_name(plan, repository.names())
        record = SearchRecord(name, plan, datetime.now(UTC))
        repository.require_free(name)
        _run(record, resources, repository, on_event or _nobody, new=True)
    return Search(name, resources.storage)


def resume(name: str, *, on_event: Callable[[Event], None] | None = None, **resources: Any) -> Search:
    """Goes on with an interrupted search: finished trials are kept, unfinished ones are trained again. Raises
    AutopeftError.
    """
    where = Resources(**resources)
    require_folder(where.folder)
    with Repository(where.storage) as repository:
        record = repository.load(name)
        repository.claim(name)
        if record.ended is None:
            _run(record, where, repository, on_event or _nobody, new=False)
        elif outstanding(record, record.plan.confirm):
            _confirm(record, record.plan.confirm, where, repository, on_event or _nobody)
        else:
            raise AutopeftError(f"search '{name}' reached its limits already; see `autopeft report {name}`.")
    return Search(name, where.storage)


def open_search(name: str, storage: str = Resources.storage) -> Search:
    """A search by name, running or finished. Raises AutopeftError."""
    return Search(name, storage)


def _run(
    record: SearchRecord, resources: Resources, repository: Repository, tell: Callable[[Event], None], new: bool
) -> None:
    plan = record.plan
    prepared = prepare(plan, Path(resources.folder).absolute(), record.name, lambda what: tell(Doing(what)))
    seed = plan.seed + len(record.trials)
    proposer = Proposer(prepared.space, plan.objectives, plan.sampler, seed, prepared.predict, prepared.limits)
    _teach(proposer, record.trials)
    tickets = {trial.number: proposer.take_up(trial) for trial in record.trials if trial.outcome is None}
    if new:
        facts = {**prepared.facts, "workers": resources.workers}
        record = replace(record, facts=facts, baselines=prepared.baselines)
        if plan.warm_start:
            record = _warmed(record, prepared, repository, tell)
        repository.create(record)
    else:
        _require_same_data(record, prepared)
    tell(Begun(record))
    tell(BaselinesKnown(prepared.baselines))
    past = record.facts.get("warm_start", [])

    def known_good(predict: Predict) -> list[Mapping[str, Any]]:
        known = portfolio(prepared.space, predict, plan.objectives, prepared.limits)
        return [*past, *(each for each in known if each not in past)]

    tell(Doing("predicting what known good candidates cost, and starting workers"))
    finder = Finder(proposer, prepared.predict, prepared.limits, ahead=resources.workers != 0)
    try:
        with closing(finder):
            finder.begin(known_good, least=len(past), tried=[trial.params for trial in record.trials])
            _train(Driver(record, finder, repository, tell, tickets), prepared.job, resources)
        repository.update(record.name, ended=datetime.now(UTC))
        record = repository.load(record.name)
        if outstanding(record, plan.confirm):
            _train(Confirmer(record, plan.confirm, repository, tell), Again(prepared.job), resources)
    except KeyboardInterrupt:
        tell(Ended(repository.load(record.name), interrupted=True))
        raise
    tell(Ended(repository.load(record.name)))


def _warmed(
    record: SearchRecord, prepared: Prepared, repository: Repository, tell: Callable[[Event], None]
) -> SearchRecord:
    """Remembers what to take over of past searches, so that a resumed search goes by the same."""
    tell(Doing("looking for past searches on this backbone"))
    past = past_searches(repository, record.plan.model)
    begins = [dict(each) for each in warm_start(past, record, prepared.space, prepared.predict, prepared.limits)]
    if not begins:
        tell(Doing("no past search offers anything to begin with; going on with known good candidates alone"))
    return replace(record, facts={**record.facts, "warm_start": begins})


def _confirm(
    record: SearchRecord, seeds: int, resources: Resources, repository: Repository, tell: Callable[[Event], None]
) -> None:
    """Trains the front again with the seeds that it lacks; does nothing where it lacks none."""
    if not front(record.trials, record.plan.objectives):
        raise AutopeftError(f"search '{record.name}' has no front to confirm: no trial finished.")
    if not outstanding(record, seeds):
        return
    folder = Path(resources.folder).absolute()
    prepared = prepare(record.plan, folder, record.name, lambda what: tell(Doing(what)))
    _require_same_data(record, prepared)
    require_same_data(record, prepared.job.tokenized.name)
    tell(Begun(record))
    tell(Doing("starting workers"))
    try:
        _train(Confirmer(record, seeds, repository, tell), Again(prepared.job), resources)
    except KeyboardInterrupt:
        tell(Ended(repository.load(record.name), interrupted=True))
        raise
    tell(Ended(repository.load(record.name)))


def _fact(record: SearchRecord, name: str) -> Any:
    """What was found out before the first trial. Raises AutopeftError where somebody took it away."""
    if record.facts.get(name) is None:
        raise AutopeftError(
            f"search '{record.name}' does not remember its {name.replace('_', ' ')}; start another one."
        )
    return record.facts[name]


def _require_same_data(record: SearchRecord, prepared: Prepared) -> None:
    if _fact(record, "data_fingerprint") != prepared.facts["data_fingerprint"]:
        raise AutopeftError(
            f"the data in '{record.plan.data}' changed since search '{record.name}' began; start another one."
        )


def _train(ledger: Ledger, new_worker: Callable[[], Worker], resources: Resources) -> None:
    if resources.workers == 0:
        train_here(ledger, new_worker)
        return
    with handler_kept():
        from autopeft.search.on_ray import train_on_ray

    train_on_ray(
        ledger,
        new_worker,
        workers=resources.workers,
        gpus_per_trial=resources.gpus_per_trial,
        address=resources.address,
        timeout=resources.timeout,
    )


def _teach(proposer: Proposer, trials: tuple[Trial, ...]) -> None:
    """Tells again of every trial that has an outcome."""
    for trial in trials:
        if trial.outcome is not None:
            proposer.recall(trial)


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
    return replace(plan, model=_absolute(plan.model), data=_absolute(plan.data), space=_absolute(plan.space))


def _absolute(place: str) -> str:
    try:
        path = Path(place).expanduser()
        return str(path.absolute()) if path.exists() else place
    except (OSError, RuntimeError):  # No system has such a path, or nobody such a home: it may be a hub name.
        return place


def _checked(name: str) -> str:
    """A name that can also be a folder's. Raises AutopeftError."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise AutopeftError(f"a search cannot be named '{name}'; use letters, digits, '-', '_' and '.'.")
    if len(name.encode()) > MOST_OF_NAME:
        raise AutopeftError(f"a search cannot be named '{brief(name)}': a name takes at most {MOST_OF_NAME} bytes.")
    return name


def _new_name(plan: Plan, taken: tuple[str, ...]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", Path(plan.data).stem.lower())[:60].strip("-") or "search"
    name = base = f"{stem}-{datetime.now():%Y%m%d-%H%M}"
    number = 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _nobody(_: Event) -> None:
    """Listens to events when nobody else does."""
