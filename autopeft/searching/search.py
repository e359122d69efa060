"""Searches as users hold them: begun, gone on with, opened and asked. The work itself is in `sitting.py`.

Nothing here imports what training needs before it is needed, so that slips are answered, and reports made, at once.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from autopeft.backbone.place import require_model
from autopeft.confirmed import Confirmed, confirmed
from autopeft.errors import AutopeftError
from autopeft.events import IMPORTING, Event, saying
from autopeft.files import require_folder
from autopeft.foreign import brief
from autopeft.fronts import front, select
from autopeft.objectives import SCORE
from autopeft.plan import Budget, Plan, Resources
from autopeft.searching.confirm.lacking import outstanding
from autopeft.searching.keeping import why_deleted
from autopeft.searching.limits import extended, require_once_more
from autopeft.searching.own_code import (
    FINGERPRINTS,
    execute,
    fingerprints,
    named,
    own_slips_told,
    require_named,
    require_same_code,
)
from autopeft.searching.sameness import fact, require_trusted
from autopeft.searching.slips import require_names, require_places
from autopeft.searching.whereabouts import (
    NAME,
    absolute,
    free_name,
    has_weights,
    located,
    places_of_new,
    require_kept,
    require_there,
    rooted,
    run_folder,
    sitting_in,
    with_moved,
)
from autopeft.sizes import Share
from autopeft.storage.repository import Repository
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
        self.refresh()

    def __repr__(self) -> str:
        trials = "1 trial" if len(self.trials) == 1 else f"{len(self.trials)} trials"
        return f"<Search '{self.name}': {trials}, {len(self.front) or 'none'} on the front>"

    def refresh(self) -> "Search":
        """Reads the database again, for a search that is still running elsewhere."""
        self._record = self._load()
        self._trials = tuple(replace(trial, search=self._record) for trial in self._record.trials)
        return self

    @property
    def record(self) -> SearchRecord:
        """Everything remembered, as frozen values."""
        return self._record

    @property
    def plan(self) -> Plan:
        """What was asked for."""
        return self._record.plan

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every candidate that was trained, or is, in the order in which they began."""
        return self._trials

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

    def select(
        self,
        *,
        prefer: str = SCORE,
        memory: str | float | None = None,
        trainable: str | float | Share | None = None,
        stored: str | float | None = None,
        flops: str | float | None = None,
        overhead: str | float | None = None,
        time: str | float | None = None,
        latency: str | float | None = None,
        score: str | float | None = None,
        accuracy_at_least: str | float | None = None,
    ) -> Trial:
        """The best trial under limits, which are those of `Budget`; on latency and score those of the plan count where
        none are given. `prefer` is the objective that decides: a cost, `score`, or the name of its metric.

        >>> search.select(memory="6GiB", trainable=500_000, score=0.8)

        Raises AutopeftError that says which limit excludes all, and what the nearest trial needs.
        """
        limits = Budget(memory, trainable, stored, flops, overhead, latency, score, accuracy_at_least, time=time)
        budget = limits.or_else(self.plan.budget).resolved(int(fact(self._record, "backbone_parameters")))
        return select(self.trials, budget, self._record.metric, prefer=prefer)

    def export(
        self,
        number: int,
        to: str | Path,
        merge: bool = False,
        model: str | None = None,
        space: str | None = None,
        task: Any = None,
        *,
        onnx: bool = False,
        lora: bool = False,
        trust_remote_code: bool = False,
    ) -> Path:
        """Writes a trial's trained weights to a new folder with a model card, from where `autopeft.load` and, for
        peft's methods, peft read them; `merge`, `onnx` and `lora` are those of `Trial.save`. `model` and `space` are
        for what lies elsewhere now; `space` also trusts the code that your own cards name, `task` a task of your own,
        and `trust_remote_code` code of the model, each as the plan does.

        Raises AutopeftError.
        """
        own = named({"task": task})
        require_trusted(self._record, trust_remote_code, space)
        require_named(self._record, own)
        trial, model = self.trial(number), absolute(model or self.plan.model)
        if why := self.why_deleted(number):
            raise AutopeftError(why)
        require_there("model", model, self.name)
        require_model(model)
        if Path(cards := space or self.plan.space).is_dir():
            from autopeft.methods.saved import trust
            from autopeft.space.space import load_space

            # What is written is loaded again, and a method of one's own is known by the cards of the space.
            trust(load_space(cards).cards)
        execute(own)
        return trial.save(to, merge, model, onnx=onnx, lora=lora, trust_remote_code=trust_remote_code)

    def has_weights(self, number: int) -> bool:
        """Whether the trained weights of a trial are there. Raises AutopeftError."""
        return has_weights(self.trial(number))

    def why_deleted(self, number: int) -> str:
        """Why a search deleted the weights of a trial, and what to do; empty where it did not. Raises AutopeftError."""
        return why_deleted(self._record, self.trial(number), self._storage, self._folder)

    def confirm(
        self,
        seeds: int = 3,
        *,
        on_event: Callable[[Event], None] | None = None,
        model: str | None = None,
        data: str | None = None,
        space: str | None = None,
        task: Any = None,
        metric: Any = None,
        trust_remote_code: bool = False,
        workers: int | None = None,
        gpus_per_trial: float | None = None,
        address: str | None = None,
        timeout: str | float | None = None,
        storage: str | None = None,
        folder: str | Path | None = None,
    ) -> "Search":
        """Trains every member of the front again with further seeds, at full length, and lets each answer the test
        split once; goes on where an earlier call ended. From `workers` on, settings are those of `Resources`; `model`,
        `data` and `space` are for what lies elsewhere now; `task` and `metric` say once more which code of your own may
        run, and `trust_remote_code` says of the model's what the plan says.

        Raises AutopeftError.
        """
        if not isinstance(seeds, int) or seeds < 1:
            raise AutopeftError(f"seeds must be a whole number of at least 1, not '{seeds}'.")
        given = {"workers": workers, "gpus_per_trial": gpus_per_trial, "address": address, "timeout": timeout}
        folder = folder or self._folder
        where = Resources.of({**given, "storage": storage or self._storage, "folder": folder})
        with Repository(where.storage) as repository:
            repository.claim(self.name)
            record = repository.load(self.name)
            require_kept(record)
            require_trusted(record, trust_remote_code, space)
            own = named({"task": task, "metric": metric})
            require_named(record, own)
            moved = {"model": model, "data": data, "space": space, **own}
            if not front(record.trials, record.objectives):
                raise AutopeftError(f"search '{record.name}' has no front to confirm: no trial finished.")
            if not outstanding(record, seeds):
                return self.refresh()
            record = _sitting(record, moved, folder)
            require_places(record.plan)
            tell = on_event or _nobody
            tell(IMPORTING)
            execute(own)
            require_same_code(record, saying(tell))
            from autopeft.searching.sitting import confirm

            with own_slips_told(record.plan):
                confirm(record, seeds, where, repository, tell)
        return self.refresh()

    @property
    def confirmed(self) -> Confirmed | None:
        """What confirmations say of the front: means and spreads, who is ahead of whom; None before there are any."""
        return confirmed(self._record)

    def study(self) -> Any:
        """An Optuna study that holds this search's trials, for its plots and importances."""
        from autopeft.searching.proposer import Proposer
        from autopeft.searching.recalling import as_searched, teach

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

    Settings are the fields of `Plan` (unless a plan is given) and of `Resources`; `task` may also be a class of your
    own, and `metric` a function of expected and predicted values. Ctrl-C raises KeyboardInterrupt and
    leaves a search that `resume` goes on with. Raises AutopeftError.
    """
    began = monotonic()
    of_resources = {each.name for each in fields(Resources)}
    resources = Resources(**{key: value for key, value in settings.items() if key in of_resources})
    of_plan = named({key: value for key, value in settings.items() if key not in of_resources})
    plan = startable(Plan.from_dict(of_plan) if plan is None else replace(plan, **of_plan), resources)
    with Repository(resources.storage) as repository:
        begun = name_of_new(plan, name, repository.names())
        repository.require_free(begun)
        facts = {**places_of_new(begun, Path(resources.folder).absolute()), "workers": resources.workers}
        record = SearchRecord(begun, plan, datetime.now(UTC), facts=facts)
        tell = on_event or _nobody
        tell(IMPORTING)
        execute({"task": plan.task, "metric": plan.metric})
        record = replace(record, facts={**facts, FINGERPRINTS: fingerprints(plan)})
        from autopeft.searching.sitting import run

        with own_slips_told(plan):
            name = run(record, resources, repository, tell, new=True, named=name is not None, began=began)
    return Search(name, resources.storage)


def resume(
    name: str,
    *,
    trials: int | None = None,
    time: str | float | None = None,
    once_more: int | None = None,
    on_event: Callable[[Event], None] | None = None,
    model: str | None = None,
    data: str | None = None,
    space: str | None = None,
    task: Any = None,
    metric: Any = None,
    trust_remote_code: bool = False,
    **resources: Any,
) -> Search:
    """Goes on with an interrupted search: finished trials are kept, unfinished ones go on from their last rungs.

    With `trials` or `time`, which count from the search's beginning, also with one that had reached its limits: the
    plan has these from now on. With `once_more`, the number of a trial whose weights are gone, that one alone is
    trained again, to its end, and its weights are kept. `resources` are the fields of `Resources`; `model`, `data`
    and `space` are for what lies elsewhere now; `task` and `metric` say once more which code of your own may run, and
    `trust_remote_code` says of the model's what the plan says. Raises AutopeftError.
    """
    began, where = monotonic(), Resources(**resources)
    with Repository(where.storage) as repository:
        repository.claim(name)
        record = repository.load(name)
        require_kept(record)
        require_trusted(record, trust_remote_code, space)
        own = named({"task": task, "metric": metric})
        require_named(record, own)
        if once_more is not None:
            require_once_more(located(record, resources.get("folder")), once_more, trials, time)
        record = extended(record, trials, time)
        if once_more is None and record.ended is not None and not outstanding(record, record.plan.confirm):
            raise AutopeftError(
                f"search '{name}' reached its limits already; see `autopeft report {name}`, or give it more by "
                "--trials or --time."
            )
        moved = {"model": model, "data": data, "space": space, **own}
        record = _sitting(record, moved, resources.get("folder"))
        require_places(record.plan)
        tell = on_event or _nobody
        tell(IMPORTING)
        execute(own)
        require_same_code(record, saying(tell))
        from autopeft.searching.sitting import confirm, run, train_once_more

        with own_slips_told(record.plan):
            if once_more is not None:
                train_once_more(record, once_more, where, repository, tell)
            elif record.ended is None:
                run(record, where, repository, tell, new=False, began=began)
            else:
                confirm(record, record.plan.confirm, where, repository, tell)
    return Search(name, where.storage)


def open_search(name: str, storage: str = Resources.storage, folder: str | Path | None = None) -> Search:
    """A search by name, running or finished; `folder` is the run folder where it was moved. Raises AutopeftError."""
    return Search(name, storage, folder)


def _sitting(record: SearchRecord, moved: Mapping[str, str | None], folder: str | Path | None) -> SearchRecord:
    """The record of a search that is gone on with, where its files lie now. Raises AutopeftError."""
    place = run_folder(record, folder)
    require_folder(place)
    return sitting_in(with_moved(record, moved), place)


def startable(plan: Plan, resources: Resources) -> Plan:
    """A plan as it may be started from anywhere. Raises AutopeftError for names and places that are slips."""
    plan = rooted(plan)
    require_names(plan)
    require_places(plan)
    require_folder(resources.folder)
    return plan


def name_of_new(plan: Plan, given: str | None, taken: Container[str]) -> str:
    """How a new search is called: as it was asked for, else by the data and the time. Raises AutopeftError."""
    return _checked(given) if given else free_name(_stem(plan), taken)


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


def _nobody(_: object) -> None:
    """Listens when nobody else does."""
