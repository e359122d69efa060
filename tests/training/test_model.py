from contextlib import nullcontext

import pytest
import torch
from torch import nn
from transformers import RobertaConfig, RobertaModel

from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.tasks.heads import POOLINGS, ClassificationHead, pool
from autopeft.training.model import States, TaskModel
from tests.backbone.architectures import new
from tests.tiny import CONFIGS, WIDTH, batch, tiny

STATES = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]], [[8.0, 80.0], [16.0, 160.0], [32.0, 320.0]]])
RIGHT = torch.tensor([[1, 1, 0], [1, 1, 1]])
LEFT = torch.tensor([[0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize(
    ("pooling", "mask", "pooled"),
    [
        ("mean", RIGHT, [[1.5, 15], [56 / 3, 560 / 3]]),
        ("first", RIGHT, [[1, 10], [8, 80]]),
        ("last", RIGHT, [[2, 20], [32, 320]]),
        ("mean", LEFT, [[3, 30], [56 / 3, 560 / 3]]),
        ("first", LEFT, [[2, 20], [8, 80]]),
        ("last", LEFT, [[4, 40], [32, 320]]),
    ],
)
def test_states_of_real_tokens_are_pooled(pooling, mask, pooled):
    assert torch.allclose(pool(STATES, mask, pooling), torch.tensor(pooled, dtype=torch.float32))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_in_full_precision_and_never_sees_padding(pooling):
    states = STATES.to(torch.bfloat16)
    states[0, 2] = float("nan")
    pooled = pool(states, RIGHT, pooling)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, pool(STATES, RIGHT, pooling))


def test_an_unknown_pooling_is_answered_with_the_nearest():
    with pytest.raises(AutopeftError, match=r"unknown pooling 'means'\. Did you mean 'mean'\?"):
        ClassificationHead(WIDTH, 2, "means")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_logits_are_those_of_each_text_alone(architecture, pooling):
    """Padding on the right changes nothing; positions are counted from the left."""
    classifier = TaskModel(tiny(architecture), ClassificationHead(WIDTH, 3, pooling)).eval()
    inputs = batch(rows=3)
    logits = classifier(inputs)
    assert logits.shape == (3, 3)
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = classifier({name: tensor[row : row + 1, :length] for name, tensor in inputs.items()})
        assert torch.allclose(logits[row], alone[0], atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("prepended", [0, 5])
def test_what_the_model_has_no_positions_for_is_cut_off(architecture, prepended):
    """64 of them, of which RoBERTa's begin at 2."""
    model = new(architecture)
    room = (62 if architecture == "roberta" else 64) - prepended
    inputs = batch(rows=2, length=80)
    inputs["attention_mask"][1, room - 7 :] = 0
    with attach(model, method("prompt_tuning", length=prepended)) if prepended else nullcontext() as attached:
        classifier = TaskModel(model, ClassificationHead(WIDTH, 2, "last"), attached).eval()
        assert torch.equal(classifier(inputs), classifier({name: each[:, :room] for name, each in inputs.items()}))


@pytest.mark.parametrize(("types", "kept"), [(1, False), (2, True)])
def test_types_of_tokens_are_left_out_where_the_model_has_one_only(types, kept):
    model = RobertaModel(
        RobertaConfig(vocab_size=96, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, type_vocab_size=types)
    ).eval()
    classifier = TaskModel(model, States()).eval()
    inputs = batch()
    typed = classifier({**inputs, "token_type_ids": torch.ones_like(inputs["input_ids"])})
    assert torch.equal(typed, classifier(inputs)) != kept


def test_types_of_tokens_are_left_out_where_prompts_stand_before_them():
    """peft leaves them out too, and says so in a warning, which no user can do anything about."""
    model, inputs = tiny("bert"), batch()
    with attach(model, method("prompt_tuning", length=3)) as attached:
        classifier = TaskModel(model, States(), attached).eval()
        typed = classifier({**inputs, "token_type_ids": torch.ones_like(inputs["input_ids"])})
        assert torch.equal(typed, classifier(inputs))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_positions_that_a_method_prepends_are_no_tokens(pooling):
    class Prepending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bare = tiny("bert")

        def forward(self, **inputs: torch.Tensor) -> object:
            output = self.bare(**inputs)
            states = output.last_hidden_state
            output.last_hidden_state = torch.cat([torch.full_like(states[:, :2], 1e6), states], dim=1)
            return output

    head = ClassificationHead(WIDTH, 2, pooling)
    with_prompt, without = TaskModel(Prepending(), head), TaskModel(tiny("bert"), head)
    with_prompt.prepended = 2
    assert torch.equal(with_prompt(batch()), without(batch()))


def test_modules_beside_the_model_are_trained_with_it():
    with attach(tiny("bert"), "adapter") as attached:
        classifier = TaskModel(attached.model, ClassificationHead(WIDTH, 2), attached)
    assert {name.split(".")[0] for name, _ in classifier.named_parameters()} == {"model", "beside", "head"}
