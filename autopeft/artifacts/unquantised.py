"""What a trained model scores that is given away as something else than what was trained: merged into the unquantised
backbone where it was trained on a quantised one, or as a LoRA.

On the validation rows that the search judged by, by the search's metric; where that judges what is written, or is a
function of the user's own, which runs only where it is named, by the task's usual one, which is kept beside it.
"""

from dataclasses import dataclass

from autopeft.artifacts.trained import TrainedModel
from autopeft.errors import AutopeftError
from autopeft.tasks.understanding import understand
from autopeft.training.evaluation import evaluate, judged
from autopeft.trial import Trial


@dataclass(frozen=True)
class Again:
    """A score, as it is now and as it was."""

    heading: str
    """Of the metric."""
    score: float
    error: float
    before: float
    """As it was trained."""


def again(trained: TrainedModel, trial: Trial | None) -> Again | None:
    """None where no search knows the rows, or where these are not there any more."""
    record = trial.search if trial else None
    if trial is None or record is None or not trial.curve:
        return None
    plan, last = record.plan, trial.curve[-1]
    scores = {**last.others, record.metric.name: last.score}
    asked = next((each for each in trained.task.metrics if each.name == record.metric.name), trained.task.metrics[0])
    try:
        data = understand(plan.data, plan.given, plan.task, plan.seed, plan.separator, plan.loss_on)
    except AutopeftError:
        return None
    if data.fingerprint != record.facts.get("data_fingerprint") or asked.name not in scores:
        return None
    rows = trained.task.encode(data.splits["validation"], trained.backbone, trained.longest)
    answers = judged(asked, evaluate(trained.model, rows, trained.backbone.model.device).judged)
    return Again(asked.heading, answers.score, answers.error, scores[asked.name])
