"""The second of three preparations: the space fitted to backbone, task and budget.

A search that is gone on with remembers what its space was fitted to: nothing is tried again, unless a library that
attaches methods is another one now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version

import numpy as np

from autopeft.backbone.load import load_skeleton
from autopeft.backbone.quantised import format_of
from autopeft.costs.load import Load
from autopeft.costs.predict import Predictor
from autopeft.costs.rates import rates_of
from autopeft.costs.room import free_here, limit_of
from autopeft.costs.seconds import Seconds
from autopeft.costs.shared import shared_predictor
from autopeft.costs.writing import Writing
from autopeft.data.store import Dataset, open_split
from autopeft.methods.saved import trust
from autopeft.plan import Plan
from autopeft.searching.feasible import require_something_fits
from autopeft.searching.preparing.dataset import PreparedDataset
from autopeft.searching.recalling import as_searched, space_again
from autopeft.sizes import show_bytes
from autopeft.space.candidate import Candidate
from autopeft.space.space import Space, load_space
from autopeft.tasks.base import Task
from autopeft.training.precision import device_here
from autopeft.trial import Costs, SearchRecord

_ATTACHING = ("autopeft", "peft", "transformers")
"""Libraries that say which methods go on which backbone."""
_MEMORY = "memory"
"""The cost that a device limits by itself."""


@dataclass(frozen=True)
class PreparedSpace:
    """What may be searched, and what it costs."""

    space: Space
    """Fitted to the backbone."""
    limits: Mapping[str, float]
    """The budget's limits on costs, in numbers, and what the device has room for."""
    predictor: Callable[[], Predictor]
    """Makes it when it is asked first: confirmations never do."""
    rows: int
    """Of the training data: no batch holds more."""
    seconds: Seconds
    """Predicts how long trainings take, and learns it from trials."""

    def predict(self, candidate: Candidate) -> Costs:
        """What a candidate costs, its time as far as that is known by now. Raises CannotAttach with the reason."""
        batch = min(candidate.training.batch_size, self.rows)
        within = replace(candidate, training=replace(candidate.training, batch_size=batch))
        return self.seconds.timed(within, self.predictor().predict(within))


def drawn_by(plan: Plan, known: SearchRecord | None) -> Space:
    """The space that a plan asks for, or as it was fitted to the search that is `known`. Raises AutopeftError."""
    if known is None:
        space = load_space(plan.space).only(plan.methods)
    else:
        space = as_searched(known) if _attaches_as_then(known) else space_again(plan)
    trust(space.cards)
    return space


def prepare_space(
    space: Space,
    plan: Plan,
    dataset: PreparedDataset,
    say: Callable[[str], None],
    known: SearchRecord | None,
    threads: int | None,
    writing: Writing | None = None,
) -> PreparedSpace:
    """`threads` are those of one worker; `writing` says how long texts are that models are judged by. Raises
    AutopeftError where nothing fits the budget.
    """
    limits = plan.budget.resolved(dataset.backbone.parameters).limits()
    room = limit_of(limits.get(_MEMORY), free_here())
    if room is not None and _MEMORY not in limits:
        say(f"without --memory, what fits into what the GPU has free is the limit: {show_bytes(room)}")
        limits = {**limits, _MEMORY: room}
    space = space.having(dataset.data.task.settings)

    @cache
    def predictor() -> Predictor:
        task, trusted = dataset.data.task, plan.trust_remote_code
        skeleton = load_skeleton(
            dataset.model,
            dataset.backbone.dtype,
            trust_remote_code=trusted,
            causal=task.causal,
            quantised=format_of(dataset.backbone.model),
        )
        return shared_predictor(
            skeleton,
            space.cards,
            task,
            dataset.length,
            longest=dataset.longest,
            rows=len(train),
            packed=plan.packing,
            learned=None if plan.packing else learned_of(task, train, validation),
            writing=writing,
        )

    train, validation = (open_split(dataset.encoded, name) for name in ("train", "validation"))
    seconds = Seconds(Load.of(train, validation), partial(rates_of, device_here(), threads), writing)
    prepared = PreparedSpace(space, limits, predictor, len(train), seconds)
    if known and _attaches_as_then(known):
        return prepared
    say("fitting the space to backbone and budget")
    prepared = replace(prepared, space=space.fitted(predictor().refusal, predictor().unfitness))
    require_something_fits(prepared.space, limits, prepared.predict, predictor().counts, f"the space '{space.name}'")
    return prepared


def learned_of(task: Task, train: Dataset, validation: Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions of each row that a head looks at, as a prediction takes them; None where it looks at all."""
    trained, judged = task.learned(train), task.learned(validation)
    return None if trained is None or judged is None else (trained, judged)


def _attaches_as_then(known: SearchRecord) -> bool:
    versions = known.facts.get("versions") or {}
    return all(versions.get(name) == version(name) for name in _ATTACHING)
