"""Inference is timed as it is computed when scores are measured."""

import pytest
import torch

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_backbone
from autopeft.costs.latency import latency_of_writing, measure_latency
from autopeft.methods.registry import Configured, method
from autopeft.training import precision
from tests.tasks.examples import model_that_goes_on
from tests.tiny import batch, tiny


@pytest.mark.parametrize("has_bf16", [True, False])
def test_latency_is_measured_in_the_precision_of_training(has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: has_bf16)
    model, adapter, seen = tiny("bert"), method("adapter"), set()
    sites = find_sites(model)
    assert isinstance(adapter, Configured)
    linear = model.encoder.layer[0].intermediate.dense
    linear.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    latency = measure_latency(model, sites, [adapter], batch(rows=1))
    assert seen == {torch.bfloat16 if has_bf16 else torch.float32}
    assert latency.bare > 0
    assert latency.with_methods > 0


def test_of_what_is_written_each_new_token_is_timed_with_what_does_not_merge(tmp_path):
    model_that_goes_on(tmp_path / "model", layers=2)
    backbone = load_backbone(str(tmp_path / "model"), causal=True)
    before = {name: each.clone() for name, each in backbone.model.named_parameters()}
    own = backbone.whole.generation_config
    bare = latency_of_writing(backbone, (), [7, 8, 9])
    assert bare.with_methods == bare.bare > 0
    long = latency_of_writing(backbone, (method("adapter"),), [7] * 200)
    assert long.with_methods > 0
    assert long.bare > 0
    keys = Configured("keys", "peft.PrefixTuningConfig", {"num_virtual_tokens": 4}, {})
    assert latency_of_writing(backbone, (keys,), [7]) is None
    assert backbone.whole.generation_config is own
    assert all(each.equal(before[name]) for name, each in backbone.model.named_parameters())
