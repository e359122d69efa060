"""One sitting of a search: prepared, trained, confirmed. This file only joins the steps, each of which lives elsewhere.

Whoever imports it imports torch and all that training needs; what can be answered without that was answered before.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from autopeft.events import BaselinesKnown, Begun, Doing, Ended, Event
from autopeft.plan import Resources
from autopeft.search.confirm.lacking import outstanding, require_same_test
from autopeft.search.confirm.ledger import Confirmer
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
from autopeft.search.recalling import teach
from autopeft.search.sameness import BACKBONE
from autopeft.search.signals import handlers_kept
from autopeft.search.warm_start import on_other_weights, past_searches, warm_start
from autopeft.search.whereabouts import free_name, run_folders, weights_folder
from autopeft.space.parameters import Recalled
from autopeft.storage.repository import NameTaken, Repository
from autopeft.trial import SearchRecord


def run(
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
        for params in known:
            driver.expect(predict(prepared.space.draw(Recalled(params))))
        return [*past, *(each for each in known if each not in past)]

    tell(Doing("predicting what known good candidates cost, and starting workers"))
    finder = Finder(proposer, prepared.predict, prepared.limits, ahead=resources.workers != 0)
    driver = Driver(record, finder, repository, tell, tickets)
    try:
        with closing(finder):
            finder.begin(known_good, least=len(past), tried=[trial.params for trial in record.trials])
            _train(driver, prepared.job, resources)
        driver.remember_time()
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
            record = replace(record, name=free_name(stem, repository.names()))
        else:
            return record


def _remember(record: SearchRecord, before: SearchRecord, repository: Repository) -> None:
    """Remembers what a new sitting changed: where files lie, its limits, and trials that cannot be gone on with."""
    repository.update(record.name, plan=record.plan, facts=record.facts)
    if record.ended is None:
        repository.reopen(record.name)
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


def confirm(
    record: SearchRecord, seeds: int, resources: Resources, repository: Repository, tell: Callable[[Event], None]
) -> None:
    """Trains the front again with the seeds that it lacks."""
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


def _saying(tell: Callable[[Event], None]) -> Callable[[str], None]:
    return lambda what: tell(Doing(what))
