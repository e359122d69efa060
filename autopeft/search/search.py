"""The main job: from a plan to a front. This file only joins the steps, each of which lives elsewhere."""

import re
from collections.abc import Callable, Container, Mapping
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from autopeft.confirmed import Confirmed, confirmed
from autopeft.errors import AutopeftError
from autopeft.events import BaselinesKnown, Begun, Doing, Ended, Event
from autopeft.files import require_folder
from autopeft.foreign import brief
from autopeft.fronts import front, select
from autopeft.methods.saved import trust
from autopeft.objectives import SCORE
from autopeft.plan import Budget, Plan, Resources
from autopeft.search.confirm.ledger import Confirmer, outstanding, require_same_test
from autopeft.search.confirm.worker import Again
from autopeft.search.driver import Driver
from autopeft.search.finder import Finder, Predict
from autopeft.search.here import train_here
from autopeft.search.ledger import Ledger, Worker
from autopeft.search.leftovers import clear
from autopeft.search.marks import mark, require_own
from autopeft.search.portfolio import portfolio
from autopeft.search.preparation import Prepared, prepare
from autopeft.search.proposer import Proposer
from autopeft.search.recalling import as_searched, teach
from autopeft.search.sameness import BACKBONE, fact, require_trusted
from autopeft.search.signals import handlers_kept
from autopeft.search.warm_start import on_other_weights, past_searches, warm_start
from autopeft.search.whereabouts import (
    NAME,
    absolute,
    has_weights,
    located,
    places_of_new,
    require_kept,
    require_there,
    rooted,
    run_folder,
    run_folders,
    sitting_in,
    weights_folder,
    with_moved,
)
from autopeft.space.space import load_space
from autopeft.storage.repository import NameTaken, Repository
from autopeft.trial import SearchRecord, Trial

MOST_OF_NAME = 100
"""Bytes of a search's name; names of files, which systems limit, are made of it."""


class Search:
    """A search, running or finished: what the database remembers of it, and the answers to be had from it."""

    def __init__(self, name: str, storage: str = Resources.storage, folder: str | Path | None = None) -> None:
        """`folder` is the run folder, where it does not lie where it was."""
        self.name = name
        self._storage = storage
        self._folder = folder
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
        return front(self.trials, self._record.objectives)

    def trial(self, number: int) -> Trial:
        """One trial by its number. Raises AutopeftError."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise AutopeftError(f"search '{self.name}' has no trial {number}; it has {len(self.trials)}, numbered from 1.")

    def select(self, *, prefer: str = SCORE, **limits: Any) -> Trial:
        """The best trial under limits such as `memory="6GiB", trainable=500_000, score=0.8`. The score may be
        called by its metric.

        Raises AutopeftError that says which limit excludes all, and what the nearest trial needs.
        """
        budget = Budget(**limits).resolved(int(fact(self._record, "backbone_parameters")))
        return select(self.trials, budget, self._record.metric, prefer=prefer)

    def export(
        self,
        number: int,
        to: str | Path,
        merge: bool = False,
        model: str | None = None,
        space: str | None = None,
        *,
        trust_remote_code: bool = False,
    ) -> Path:
        """Writes a trial's trained weights to a new folder, from where `autopeft.load` and, for peft's methods, peft
        read them. `model` and `space` are for what lies elsewhere now; `space` also trusts the code that your own cards
        name, and `trust_remote_code` that of the model, each as the plan does.

        Raises AutopeftError.
        """
        require_trusted(self._record, trust_remote_code, space)
        trial, model = self.trial(number), absolute(model or self.plan.model)
        require_there("model", model, self.name)
        if Path(cards := space or self.plan.space).is_dir():
            # What is written is loaded again, and a method of one's own is known by the cards of the space.
            trust(load_space(cards).cards)
        return trial.save(to, merge, model, trust_remote_code=trust_remote_code)

    def has_weights(self, number: int) -> bool:
        """Whether the trained weights of a trial are there. Raises AutopeftError."""
        return has_weights(self.trial(number))

    def confirm(
        self,
        seeds: int = 3,
        *,
        on_event: Callable[[Event], None] | None = None,
        model: str | None = None,
        data: str | None = None,
        space: str | None = None,
        trust_remote_code: bool = False,
        **resources: Any,
    ) -> "Search":
        """Trains every member of the front again with further seeds, at full length, and lets each answer the test
        split once; goes on where an earlier call ended. `resources` are the fields of `Resources`; `model`, `data` and
        `space` are for what lies elsewhere now; `trust_remote_code` says once more what the plan says.

        Raises AutopeftError.
        """
        if not isinstance(seeds, int) or seeds < 1:
            raise AutopeftError(f"seeds must be a whole number of at least 1, not '{seeds}'.")
        where = Resources(**{"storage": self._storage, **resources})
        with Repository(where.storage) as repository:
            repository.claim(self.name)
            record = repository.load(self.name)
            require_kept(record)
            require_trusted(record, trust_remote_code, space)
            moved = {"model": model, "data": data, "space": space}
            record = _sitting(record, moved, resources.get("folder", self._folder))
            _confirm(record, seeds, where, repository, on_event or _nobody)
        return self.refresh()

    @property
    def confirmed(self) -> Confirmed | None:
        """What confirmations say of the front: means and spreads, who is ahead of whom; None before there are any."""
        return confirmed(self._record)

    def study(self) -> Any:
        """An Optuna study that holds this search's trials, for its plots and importances."""
        require_trusted(self._record, True, None)
        space = as_searched(self._record)
        proposer = Proposer(space, self._record.objectives, self.plan.sampler, self.plan.seed)
        teach(proposer, self._record, _nobody)
        return proposer.study

    def _load(self) -> SearchRecord:
        with Repository(self._storage) as repository:
            record = repository.load(self.name)
        require_kept(record)
        return located(record, self._folder)


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
    plan = rooted(Plan.from_dict(of_plan) if plan is None else replace(plan, **of_plan))
    require_folder(resources.folder)
    with Repository(resources.storage) as repository:
        begun = _checked(name) if name else _free_name(_stem(plan), repository.names())
        repository.require_free(begun)
        facts = {**places_of_new(begun, Path(resources.folder).absolute()), "workers": resources.workers}
        record = SearchRecord(begun, plan, datetime.now(UTC), facts=facts)
        name = _run(record, resources, repository, on_event or _nobody, new=True, named=name is not None)
    return Search(name, resources.storage)


def resume(
    name: str,
    *,
    on_event: Callable[[Event], None] | None = None,
    model: str | None = None,
    data: str | None = None,
    space: str | None = None,
    trust_remote_code: bool = False,
    **resources: Any,
) -> Search:
    """Goes on with an interrupted search: finished trials are kept, unfinished ones are trained again.

    `resources` are the fields of `Resources`; `model`, `data` and `space` are for what lies elsewhere now;
    `trust_remote_code` says once more what the plan says. Raises AutopeftError.
    """
    where = Resources(**resources)
    with Repository(where.storage) as repository:
        repository.claim(name)
        record = repository.load(name)
        require_kept(record)
        require_trusted(record, trust_remote_code, space)
        lacks = outstanding(record, record.plan.confirm)
        if record.ended is not None and not lacks:
            raise AutopeftError(f"search '{name}' reached its limits already; see `autopeft report {name}`.")
        record = _sitting(record, {"model": model, "data": data, "space": space}, resources.get("folder"))
        if record.ended is None:
            _run(record, where, repository, on_event or _nobody, new=False)
        else:
            _confirm(record, record.plan.confirm, where, repository, on_event or _nobody)
    return Search(name, where.storage)


def open_search(name: str, storage: str = Resources.storage, folder: str | Path | None = None) -> Search:
    """A search by name, running or finished; `folder` is the run folder where it was moved. Raises AutopeftError."""
    return Search(name, storage, folder)


def _sitting(record: SearchRecord, moved: Mapping[str, str | None], folder: str | Path | None) -> SearchRecord:
    """The record of a search that is gone on with, where its files lie now. Raises AutopeftError."""
    place = run_folder(record, folder)
    require_folder(place)
    return sitting_in(with_moved(record, moved), place)


def _run(
    record: SearchRecord,
    resources: Resources,
    repository: Repository,
    tell: Callable[[Event], None],
    new: bool,
    named: bool = True,
) -> str:
    """Returns the search's name, which is another one where it was not `named` by the user and is taken meanwhile."""
    plan, say = record.plan, _saying(tell)
    folder, *_ = run_folders(record, None)
    require_own(record, folder / weights_folder(record))
    prepared = prepare(plan, folder, weights_folder(record), say, None if new else record)
    if new:
        record = replace(
            record,
            facts={**prepared.facts, **record.facts},
            baselines=prepared.baselines,
            task=prepared.job.description.task.name,
            metric=prepared.metric,
        )
    seed, objectives = plan.seed + len(record.trials), record.objectives
    proposer = Proposer(
        prepared.space, objectives, plan.sampler, seed, prepared.predict, prepared.limits, record.trivial
    )
    if new:
        if plan.warm_start:
            record = _warmed(record, prepared, repository, tell)
        record = _created(record, repository, named)
    else:
        before, record = record, teach(proposer, record, say)
        _remember(record, before, repository)
    mark(record, prepared.job.artifacts)
    tickets = {trial.number: proposer.take_up(trial) for trial in record.trials if trial.outcome is None}
    tell(Begun(record))
    tell(BaselinesKnown(prepared.baselines))
    past = record.facts.get("warm_start", [])

    def known_good(predict: Predict) -> list[Mapping[str, Any]]:
        known = portfolio(prepared.space, predict, objectives, prepared.limits)
        return [*past, *(each for each in known if each not in past)]

    tell(Doing("predicting what known good candidates cost, and starting workers"))
    finder = Finder(proposer, prepared.predict, prepared.limits, ahead=resources.workers != 0)
    driver = Driver(record, finder, repository, tell, tickets)
    try:
        with closing(finder):
            finder.begin(known_good, least=len(past), tried=[trial.params for trial in record.trials])
            _train(driver, prepared.job, resources)
        repository.update(record.name, ended=datetime.now(UTC))
        record = repository.load(record.name)
        if outstanding(record, plan.confirm):
            _train(Confirmer(record, plan.confirm, repository, tell), Again(prepared.job), resources)
    except KeyboardInterrupt:
        if record.ended is None:
            driver.remember_time()
        tell(Ended(repository.load(record.name), interrupted=True))
        raise
    tell(Ended(repository.load(record.name)))
    return record.name


def _created(record: SearchRecord, repository: Repository, named: bool) -> SearchRecord:
    """Remembers a new search, under the next free name where its own was not asked for and is taken by now."""
    stem = record.name
    while True:
        try:
            repository.create(record)
        except NameTaken:
            if named:
                raise
            record = replace(record, name=_free_name(stem, repository.names()))
        else:
            return record


def _remember(record: SearchRecord, before: SearchRecord, repository: Repository) -> None:
    """Remembers what a new sitting changed: where files lie, and trials that cannot be gone on with."""
    repository.update(record.name, plan=record.plan, facts=record.facts)
    for trial in record.trials:
        if trial not in before.trials:
            repository.record(record.name, trial)


def _warmed(
    record: SearchRecord, prepared: Prepared, repository: Repository, tell: Callable[[Event], None]
) -> SearchRecord:
    """Remembers what to take over of past searches, so that a resumed search goes by the same."""
    tell(Doing("looking for past searches on this backbone"))
    past = past_searches(repository, record.plan.model)
    if others := sum(on_other_weights(each, record) for each in past):
        tell(Doing(f"leaving out {others} of {len(past)} past searches on this model: its weights were others then"))
    if silent := sum(BACKBONE not in each.facts and not on_other_weights(each, record) for each in past):
        tell(Doing(f"{silent} of {len(past)} past searches do not say on which weights; taking them to be the same"))
    begins = [dict(each) for each in warm_start(past, record, prepared.space, prepared.predict, prepared.limits)]
    if not begins:
        tell(Doing("no past search offers anything to begin with; going on with known good candidates alone"))
    return replace(record, facts={**record.facts, "warm_start": begins})


def _confirm(
    record: SearchRecord, seeds: int, resources: Resources, repository: Repository, tell: Callable[[Event], None]
) -> None:
    """Trains the front again with the seeds that it lacks; does nothing where it lacks none."""
    if not front(record.trials, record.objectives):
        raise AutopeftError(f"search '{record.name}' has no front to confirm: no trial finished.")
    if not outstanding(record, seeds):
        return
    folder, *_ = run_folders(record, None)
    prepared = prepare(record.plan, folder, weights_folder(record), _saying(tell), record)
    require_same_test(record, prepared.job.test_fingerprint)
    _remember(record, record, repository)
    tell(Begun(record))
    tell(Doing("starting workers"))
    try:
        _train(Confirmer(record, seeds, repository, tell), Again(prepared.job), resources)
    except KeyboardInterrupt:
        tell(Ended(repository.load(record.name), interrupted=True))
        raise
    tell(Ended(repository.load(record.name)))


def _train(ledger: Ledger, new_worker: Callable[[], Worker], resources: Resources) -> None:
    clear()
    if resources.workers == 0:
        train_here(ledger, new_worker)
        return
    with handlers_kept():
        from autopeft.search.on_ray import train_on_ray

    train_on_ray(
        ledger,
        new_worker,
        workers=resources.workers,
        gpus_per_trial=resources.gpus_per_trial,
        address=resources.address,
        timeout=resources.timeout,
    )


def _checked(name: str) -> str:
    """A name that can also be a folder's. Raises AutopeftError."""
    if not NAME.fullmatch(name):
        raise AutopeftError(f"a search cannot be named '{name}'; use letters, digits, '-', '_' and '.'.")
    if len(name.encode()) > MOST_OF_NAME:
        raise AutopeftError(f"a search cannot be named '{brief(name)}': a name takes at most {MOST_OF_NAME} bytes.")
    return name


def _stem(plan: Plan) -> str:
    """How a search is named whose name is not given: by the data and the time."""
    data = re.sub(r"[^a-z0-9]+", "-", Path(plan.data).stem.lower())[:60].strip("-")
    return f"{data or 'search'}-{datetime.now():%Y%m%d-%H%M}"


def _free_name(stem: str, taken: Container[str]) -> str:
    """The stem, or the first of `stem-2`, `stem-3` and so on that is not taken."""
    numbered = (f"{stem}-{number}" for number in count(2))
    return next(name for name in chain([stem], numbered) if name not in taken)


def _saying(tell: Callable[[Event], None]) -> Callable[[str], None]:
    return lambda what: tell(Doing(what))


def _nobody(_: object) -> None:
    """Listens when nobody else does."""
