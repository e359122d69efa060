"""Where only shapes are asked for nothing is decomposed or drawn, and as much is counted as on a real model."""

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from autopeft.backbone.load import load_skeleton
from autopeft.methods import peft as module
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.tiny import CONFIGS, tiny

LOOKING = ("adamss", "boft", "frod", "osf", "psoft", "shira", "unilora")
"""Methods whose beginnings look at values."""


@pytest.mark.parametrize("name", LOOKING)
def test_as_much_is_counted_without_values_as_with_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refused(*_: Any) -> Any:
        raise AssertionError("random weights stood in")
        yield

    monkeypatch.setattr(module, "stand_ins", refused)
    skeleton = load_skeleton(CONFIGS["llama"]())
    with torch.device("meta"), attach(skeleton.model, [method(name)], skeleton.sites) as attached:
        counted = attached.count, attached.stored
        assert all(each.is_meta for each in attached.parameters())
    with attach(tiny("llama"), method(name)) as attached:
        assert (attached.count, attached.stored) == counted


def test_weights_of_a_real_width_are_not_looked_at() -> None:
    """On the width of a model of 3 billion parameters one layer took minutes."""
    shape = {"hidden_size": 3072, "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 100}
    skeleton = load_skeleton(LlamaConfig(**shape, intermediate_size=8192, num_hidden_layers=1))
    before = torch.random.get_rng_state()
    for name in ("adamss", "boft", "frod", "osf"):
        with torch.device("meta"), attach(skeleton.model, [method(name)], skeleton.sites) as attached:
            assert attached.count > 0
    assert torch.random.get_rng_state().equal(before)
