"""Inference is timed as it is computed when scores are measured."""

import pytest
import torch

from autopeft.backbone.find import find_sites
from autopeft.costs.latency import measure_latency
from autopeft.methods.registry import Configured, method
from autopeft.training import precision
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
