"""The second of three preparations: the space fitted to backbone, task and budget.

A search that is gone on with remembers what its space was fitted to: nothing is tried again, unless a library that
attaches methods is another one now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version

from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.methods.saved import trust
from autopeft.plan import Plan
from autopeft.search.feasible import require_something_fits
from autopeft.search.preparing.dataset import PreparedDataset
from autopeft.search.recalling import as_searched, space_again
from autopeft.space.candidate import Candidate
from autopeft.space.space import Space, load_space
from autopeft.trial import Costs, SearchRecord

_ATTACHING = ("autopeft", "peft", "transformers")
"""Libraries that say which methods go on which backbone."""


@dataclass(frozen=True)
class PreparedSpace:
    """What may be searched, and what it costs."""

    space: Space
    """Fitted to the backbone."""
    limits: Mapping[str, float]
    """The budget's limits on costs, in numbers."""
    predictor: Callable[[], Predictor]
    """Makes it when it is asked first: confirmations never do."""
    rows: int
    """Of the training data: no batch holds more."""

    def predict(self, candidate: Candidate) -> Costs:
        """What a candidate costs. Raises CannotAttach with the reason."""
        batch = min(candidate.training.batch_size, self.rows)
        return self.predictor().predict(replace(candidate, training=replace(candidate.training, batch_size=batch)))


def drawn_by(plan: Plan, known: SearchRecord | None) -> Space:
    """The space that a plan asks for, or as it was fitted to the search that is `known`. Raises AutopeftError."""
    if known is None:
        space = load_space(plan.space).only(plan.methods)
    else:
        space = as_searched(known) if _attaches_as_then(known) else space_again(plan)
    trust(space.cards)
    return space


def prepare_space(
    space: Space, plan: Plan, dataset: PreparedDataset, say: Callable[[str], None], known: SearchRecord | None
) -> PreparedSpace:
    """Raises AutopeftError where nothing fits the budget."""
    limits = plan.budget.resolved(dataset.backbone.parameters).limits()
    space = space.having(dataset.data.task.settings)

    @cache
    def predictor() -> Predictor:
        skeleton = load_skeleton(dataset.model, dataset.backbone.dtype, trust_remote_code=plan.trust_remote_code)
        return Predictor(skeleton, space.cards, dataset.data.task, dataset.length, longest=dataset.longest)

    prepared = PreparedSpace(space, limits, predictor, rows=len(dataset.data.splits["train"]))
    if known and _attaches_as_then(known):
        return prepared
    say("fitting the space to backbone and budget")
    prepared = replace(prepared, space=space.fitted(predictor().refusal, predictor().unfitness))
    require_something_fits(prepared.space, limits, prepared.predict, predictor().counts, f"the space '{space.name}'")
    return prepared


def _attaches_as_then(known: SearchRecord) -> bool:
    versions = known.facts.get("versions") or {}
    return all(versions.get(name) == version(name) for name in _ATTACHING)
