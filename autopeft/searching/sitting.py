"""One sitting of a search: prepared, trained, confirmed. This file only joins the steps, each of which lives elsewhere.

Whoever imports it imports torch and all that training needs; what can be answered without that was answered before.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from autopeft import machine
from autopeft.events import BaselinesKnown, Begun, Doing, Ended, Event, saying
from autopeft.fronts import require_reachable
from autopeft.plan import Resources
from autopeft.searching.confirm.lacking import outstanding, require_same_test
from autopeft.searching.confirm.ledger import Confirmer
from autopeft.searching.confirm.worker import Again
from autopeft.searching.driver import Driver
from autopeft.searching.finder import Finder, Predict
from autopeft.searching.here import train_here
from autopeft.searching.keeping import TakingAway, keeping, take_away, take_away_states
from autopeft.searching.ledger import Ledger, Worker
from autopeft.searching.leftovers import clear
from autopeft.searching.marks import mark, require_own
from autopeft.searching.once_more import OnceMore
from autopeft.searching.portfolio import by_hand, portfolio
from autopeft.searching.preparation import Prepared, prepare
from autopeft.searching.preparing.in_context import SHARE, SPARE
from autopeft.searching.proposer import Proposer
from autopeft.searching.recalling import teach
from autopeft.searching.sameness import BACKBONE
from autopeft.searching.signals import handlers_kept
from autopeft.searching.warm_start import on_other_weights, past_searches, warm_start
from autopeft.searching.whereabouts import free_name, run_folders, weights_folder
from autopeft.space.parameters import Recalled
from autopeft.storage.repository import NameTaken, Repository
from autopeft.trial import SearchRecord

KNOWN_GOOD = "known_good"
"""The name of a fact: draws of candidates to begin with, found once by many predictions."""


def run(
    record: SearchRecord,
    resources: Resources,
    repository: Repository,
    tell: Callable[[Event], None],
    new: bool,
    *,
    began: float,
    named: bool = True,
) -> str:
    """Returns the search's name, which is another one where it was not `named` by the user and is taken meanwhile. The
    time of a search counts from when the sitting `began`, a moment of `time.monotonic`.
    """
    plan, say = record.plan, saying(tell)
    folder, *_ = run_folders(record, None)
    require_own(record, folder / weights_folder(record))
    prepared = prepare(plan, folder, weights_folder(record), say, None if new else record, _threads(resources))
    if new:
        if plan.budget.score is not None:
            require_reachable(plan.budget.score, prepared.metric)
        record = replace(
            record,
            plan=prepared.plan,
            facts={**prepared.facts, **record.facts},
            baselines=prepared.baselines,
            task=prepared.job.description.task.name,
            metric=prepared.metric,
        )
    seed, objectives = plan.seed + len(record.trials), record.objectives
    seconds = prepared.seconds
    proposer = Proposer(
        *(prepared.space, objectives, plan.sampler, seed, prepared.predict, prepared.limits, record.trivial),
        seconds=seconds,
        spent=lambda: driver.spent,
    )
    if new:
        if plan.warm_start:
            record = _warmed(record, prepared, repository, tell)
        record = _created(record, repository, named)
    else:
        before, record = record, teach(proposer, record, say)
        _remember(record, before, repository)
    mark(record, prepared.job.artifacts)
    take_away(record, record.trials, prepared.job.artifacts)
    for trial in record.trials:
        seconds.learn(trial, earlier=True)
        if trial.outcome is None:
            proposer.take_up(trial)
    tell(Begun(record))
    tell(BaselinesKnown(prepared.baselines))
    past, remembered = record.facts.get("warm_start", []), record.facts.get(KNOWN_GOOD)

    def known_good(predict: Predict) -> list[Mapping[str, Any]]:
        if remembered is not None and prepared.as_known:
            return [*remembered]
        size = int(record.facts["backbone_parameters"])
        first = [*past, *by_hand(prepared.space, size, predict, prepared.limits)]
        spread = portfolio(prepared.space, predict, objectives, prepared.limits, seconds.usual)
        for params in spread:
            driver.expect(predict(prepared.space.draw(Recalled(params))))
        known = [*first, *spread]
        found = [each for at, each in enumerate(known) if each not in known[:at]]
        driver.remember(KNOWN_GOOD, [dict(each) for each in found])
        return found

    finder = Finder(proposer, prepared.predict, prepared.limits, ahead=resources.workers != 0)
    taking_away = TakingAway(record, prepared.job.artifacts)
    asking = prepared.prompting.seconds(record.baselines)
    driver = Driver(
        *(record, finder, repository, tell, taking_away, seconds.learn, seconds.to_first_rung, began),
        reserve=min(asking, SHARE * (plan.time or 0)),
    )
    try:
        with closing(finder):
            # Preparations may have taken all of a short time.
            if not driver.is_over:
                tell(Doing(f"predicting what known good candidates cost{_starting(resources)}"))
                finder.begin(known_good, least=len(past), tried=[trial.params for trial in record.trials])
                _train(driver, prepared.job, resources)
        _ask(prepared, record, driver, repository, tell)
        driver.remember_time()
        repository.update(record.name, ended=datetime.now(UTC))
        take_away_states(prepared.job.artifacts)
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


def _ask(
    prepared: Prepared, record: SearchRecord, driver: Driver, repository: Repository, tell: Callable[[Event], None]
) -> None:
    """Measures, in a small part of the search's time, what the backbone does with examples in its prompt."""
    seconds = max(SHARE * driver.seconds, SPARE)
    if record.plan.time is not None:
        seconds = min(seconds, record.plan.time - driver.seconds)
    baselines = prepared.prompting.measured(seconds, record.baselines, saying(tell))
    if baselines != record.baselines:
        repository.update(record.name, baselines=baselines)
        tell(BaselinesKnown(baselines))


def _threads(resources: Resources) -> int | None:
    """Of one worker, on a CPU of this machine; None where it trains in this process, with all that this one has."""
    return None if resources.workers == 0 else max(1, machine.cores() // (resources.workers or machine.cores()))


def _starting(resources: Resources) -> str:
    return "" if resources.workers == 0 else ", and starting workers"


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
    prepared = prepare(record.plan, folder, weights_folder(record), saying(tell), record)
    require_same_test(record, prepared.job.test_fingerprint)
    _remember(record, record, repository)
    ledger = partial(Confirmer, record, seeds, repository, tell)
    _train_alone(record, ledger, Again(prepared.job), resources, repository, tell)


def train_once_more(
    record: SearchRecord, number: int, resources: Resources, repository: Repository, tell: Callable[[Event], None]
) -> None:
    """Trains a trial that had ended again, to its end; its weights are kept from now on."""
    folder, *_ = run_folders(record, None)
    require_own(record, folder / weights_folder(record))
    prepared = prepare(record.plan, folder, weights_folder(record), saying(tell), record)
    mark(record, prepared.job.artifacts)
    record = keeping(record, number)
    _remember(record, record, repository)
    (trial,) = (each for each in record.trials if each.number == number)
    ledger = partial(OnceMore, record.name, trial, repository, tell)
    # Until it has finished, the weights of its rungs are not those that its record tells of.
    _train_alone(record, ledger, replace(prepared.job, on_the_way=False), resources, repository, tell)


def _train_alone(
    record: SearchRecord,
    new_ledger: Callable[[], Ledger],
    new_worker: Callable[[], Worker],
    resources: Resources,
    repository: Repository,
    tell: Callable[[Event], None],
) -> None:
    """Trains what a ledger gives, which is made when the search is told of, with nothing searched beside it."""
    tell(Begun(record))
    tell(Doing(f"preparing to train{_starting(resources)}"))
    try:
        _train(new_ledger(), new_worker, resources)
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
        from autopeft.searching.on_ray import train_on_ray

    train_on_ray(
        ledger,
        new_worker,
        workers=resources.workers,
        gpus_per_trial=resources.gpus_per_trial,
        address=resources.address,
        timeout=resources.timeout,
    )
