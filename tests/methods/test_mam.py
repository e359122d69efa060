"""MAM: prefixes in the attention, and an adapter that reads what the feed-forward reads."""

import pytest
import torch
from torch.nn.functional import relu

from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

SMALL = method("mam", prefix_tuning={"length": 4, "hidden": 7}, adapter={"bottleneck": 6})


def states(model):
    with torch.no_grad():
        return model(**batch()).last_hidden_state


@pytest.mark.parametrize("architecture", CONFIGS)
def test_each_part_without_the_other_is_that_method_alone(architecture):
    attached = disturbed(attach(tiny(architecture), SMALL))
    prefix, adapter = attached.parts
    alone = attach(tiny(architecture), SMALL.parts[0])
    again = attach(tiny(architecture), SMALL.parts[1])
    with torch.no_grad():
        for one, part in ((alone, prefix), (again, adapter)):
            for name, tensor in one.parts[0].trainable().items():
                tensor.copy_(part.trainable()[name])
        together = states(attached.model)
        for name, tensor in adapter.trainable().items():
            if ".up." in name:
                tensor.zero_()
        assert torch.equal(states(attached.model), states(alone.model))
        assert not torch.allclose(states(alone.model), together, atol=1e-3)
        assert not torch.allclose(states(again.model), together, atol=1e-3)


def test_the_adapter_adds_its_scaled_output_for_the_feed_forward_s_input():
    model, seen = tiny("bert"), {}
    attached = disturbed(attach(model, SMALL))
    tensors, layer = attached.parts[1].trainable(), model.encoder.layer[1]
    layer.intermediate.register_forward_hook(lambda _, inputs, __: seen.update(h1=inputs[0]))
    layer.output.dense.register_forward_hook(lambda _, __, output: seen.update(f=output))
    layer.output.LayerNorm.register_forward_pre_hook(lambda _, inputs: seen.update(sum=inputs[0]))
    with torch.no_grad():
        model(**batch())
        inner = relu(seen["h1"] @ tensors["1_ffn.down.weight"].T + tensors["1_ffn.down.bias"])
        added = 2.0 * (inner @ tensors["1_ffn.up.weight"].T + tensors["1_ffn.up.bias"])
        assert torch.allclose(seen["sum"], seen["f"] + added + seen["h1"], atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_it_is_saved_without_the_mlp_of_its_prefixes(architecture, tmp_path):
    attached = disturbed(attach(tiny(architecture), SMALL))
    attached.save(tmp_path)
    again = attach_saved(tiny(architecture), tmp_path)
    assert torch.equal(states(again.model), states(attached.model))
    assert set(again.parts[0].trainable()) == {"keys.0", "keys.1", "values.0", "values.1"}
