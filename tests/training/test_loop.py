"""Training learns, repeats exactly, reports its rungs, says when it diverges, and leaves no trace."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.metrics import ACCURACY
from autopeft.training.evaluation import evaluate
from autopeft.training.loop import TrainingFailed, rung_steps, train
from autopeft.training.model import TaskModel
from autopeft.trial import Rung
from tests.tiny import tiny
from tests.training.data import TASK, split

CPU = torch.device("cpu")
TRAIN, VALIDATION = split(48, 0), split(40, 1)
LORA = Candidate(
    "lora",
    (Part("lora", {"dropout": 0.1, "sites": ("q", "v", "ffn.down")}, 1e-2, 0.01),),
    Training(batch_size=8, epochs=4, head_learning_rate=1e-2),
)


@contextmanager
def classifier(candidate: Candidate, architecture: str = "bert") -> Iterator[TaskModel]:
    torch.manual_seed(7)
    parts = configured_parts(candidate.parts, load_cards())
    with attach(tiny(architecture), parts) as attached:
        yield TaskModel(attached.model, TASK.new_head(48, candidate.training), attached)


def trained(
    candidate: Candidate, seed: int = 1, architecture: str = "bert"
) -> tuple[list[Rung], dict[str, torch.Tensor]]:
    with classifier(candidate, architecture) as made:
        rungs = list(train(made, TRAIN, VALIDATION, candidate, ACCURACY, seed=seed, device=CPU))
        values = {f"{each.part}.{each.name}": each.tensor.detach().clone() for each in made.methods.tensors()}
        return rungs, values | {f"head.{name}": tensor.clone() for name, tensor in made.head.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 0.0) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[k], other[k], rtol=0, atol=atol) for k in one)


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2", "t5"])
def test_training_learns(architecture: str) -> None:
    rungs, _ = trained(replace(LORA, training=replace(LORA.training, epochs=8)), architecture=architecture)
    assert rungs[-1].score >= 0.9
    assert rungs[-1].loss < rungs[0].loss


def test_a_seed_repeats_a_training_exactly_and_another_does_not() -> None:
    rungs, values = trained(LORA)
    again, same_values = trained(LORA)
    other, other_values = trained(LORA, seed=2)
    assert [(rung.score, rung.loss) for rung in rungs] == [(rung.score, rung.loss) for rung in again]
    assert same(values, same_values)
    assert not same(values, other_values)
    assert [rung.loss for rung in other] != [rung.loss for rung in rungs]


def test_training_does_not_disturb_the_random_numbers_of_the_caller() -> None:
    with classifier(LORA) as made:
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        list(train(made, TRAIN, VALIDATION, LORA, ACCURACY, seed=1, device=CPU))
        assert torch.equal(torch.rand(1), expected)


def test_rungs_lie_where_they_are_asked_for_and_the_last_is_the_end() -> None:
    rungs, _ = trained(LORA)
    assert [(rung.step, rung.steps) for rung in rungs] == [(3, 24), (8, 24), (24, 24)]
    assert all(rung.seconds > 0 and math.isfinite(rung.loss) for rung in rungs)
    assert [rung.seconds for rung in rungs] == sorted(rung.seconds for rung in rungs)


def test_few_rows_are_passed_over_until_there_were_enough_steps() -> None:
    short = replace(LORA, training=replace(LORA.training, epochs=1, least_steps=10))
    assert trained(short)[0][-1].steps == 10
    assert trained(replace(short, training=replace(short.training, least_steps=3)))[0][-1].steps == 6


@pytest.mark.parametrize(
    ("steps", "fractions", "expected"),
    [(1, (1 / 9, 1 / 3), (1,)), (9, (1 / 9, 1 / 3), (1, 3, 9)), (4, (1 / 9, 1 / 3), (1, 4)), (10, (1.0,), (10,))],
)
def test_rungs_are_distinct_steps(steps: int, fractions: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert rung_steps(steps, fractions) == expected


def test_accumulated_gradients_train_like_the_whole_batch() -> None:
    plain = Candidate("lora", (Part("lora", {}, 1e-2),), replace(LORA.training, epochs=1))
    pieces = replace(plain, training=replace(plain.training, micro_batch_size=3))

    def without_dropout(candidate: Candidate) -> dict[str, torch.Tensor]:
        with classifier(candidate) as made:
            for module in made.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            list(train(made, TRAIN, VALIDATION, candidate, ACCURACY, seed=1, device=CPU))
            return {f"{each.name}": each.tensor.detach().clone() for each in made.methods.tensors()}

    assert same(without_dropout(plain), without_dropout(pieces), atol=2e-3)


def test_checkpointed_gradients_train_exactly_alike_and_the_model_forgets_it() -> None:
    checkpointed = replace(LORA, training=replace(LORA.training, gradient_checkpointing=True, epochs=1))
    plain = replace(LORA, training=replace(LORA.training, epochs=1))
    assert same(trained(checkpointed)[1], trained(plain)[1], atol=1e-5)
    with classifier(checkpointed) as made:
        list(train(made, TRAIN, VALIDATION, checkpointed, ACCURACY, seed=1, device=CPU))
        assert not any(getattr(module, "gradient_checkpointing", False) for module in made.modules())


@pytest.mark.parametrize("rate", [1e38, float("inf")])
def test_a_training_that_diverges_says_where_and_at_which_learning_rate(rate: float) -> None:
    wild = replace(LORA, parts=(replace(LORA.parts[0], learning_rate=rate),))
    with pytest.raises(
        TrainingFailed, match=r"no longer finite at step \d+ of 24 \(learning rates: lora (1e\+38|inf)\)"
    ):
        trained(wild)


def test_closing_a_training_early_leaves_the_classifier_in_eval_mode() -> None:
    with classifier(LORA) as made:
        training = train(made, TRAIN, VALIDATION, LORA, ACCURACY, seed=1, device=CPU)
        next(training)
        assert made.training
        training.close()
        assert not any(module.training for module in made.modules())


def test_evaluation_is_the_metric_over_all_rows_in_any_order_and_mode() -> None:
    with classifier(LORA) as made:
        made.train()
        judged = evaluate(made, VALIDATION, CPU)
        assert made.training
        made.eval()
        with torch.no_grad():
            logits = torch.cat([made(VALIDATION.batch([row])) for row in range(len(VALIDATION))])
        labels = torch.from_numpy(VALIDATION.targets.values)
        assert ACCURACY.of(judged.statistics) == (logits.argmax(-1) == labels).double().mean().item()
        assert judged.loss == pytest.approx(cross_entropy(logits, labels).item(), abs=1e-5)
