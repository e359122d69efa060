"""A model that mixes the examples of a row is told from one that keeps them apart."""

import pytest
import torch

from autopeft.backbone.apart import why_not_apart
from tests.backbone.architectures import new

APART = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3", "phi", "phi3", "gpt2", "gptj", "codegen", "gpt_neox")


@pytest.mark.parametrize("name", APART)
def test_models_that_look_at_positions_keep_examples_apart(name: str) -> None:
    assert why_not_apart(new(name)) == ""


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_in_fewer_digits_too(name: str) -> None:
    assert why_not_apart(new(name).to(torch.bfloat16)) == ""


@pytest.mark.parametrize("name", ["opt", "falcon", "falcon-alibi"])
def test_models_that_do_not_are_told(name: str) -> None:
    assert why_not_apart(new(name)) == "what it makes of an example changes with those before it in a row"


def test_a_model_without_positions_is_told() -> None:
    assert why_not_apart(new("bloom")) == "it takes no positions"
