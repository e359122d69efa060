"""P-tuning: prompts that an MLP makes, which is not needed once they are trained."""

import peft
import pytest
import torch

from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny


def states(attached):
    with torch.no_grad():
        return attached.model(**batch()).last_hidden_state


def test_prompts_are_what_a_relu_mlp_of_three_layers_makes():
    attached = disturbed(attach(tiny("bert"), method("p_tuning", length=5, hidden=7)))
    tensors = {name.split("prompt_encoder.")[1]: tensor for name, tensor in attached.parts[0].trainable().items()}
    x = tensors["embedding.weight"]
    assert x.shape == (5, 48)
    for number in (0, 2, 4):
        x = x @ tensors[f"mlp_head.{number}.weight"].T + tensors[f"mlp_head.{number}.bias"]
        x = x.relu() if number < 4 else x
    assert torch.allclose(attached.parts[0].shipped()["prompt_embeddings"], x, atol=1e-5)
    assert attached.count == 5 * 48 + (48 * 7 + 7) + (7 * 7 + 7) + (7 * 48 + 48)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_loaded_prompts_are_trained_and_saved_again_without_the_mlp(architecture, tmp_path):
    attached = disturbed(attach(tiny(architecture), method("p_tuning", length=5, hidden=7)))
    attached.save(tmp_path / "first")
    again = attach_saved(tiny(architecture), tmp_path / "first")
    assert torch.equal(states(again), states(attached))
    (prompts,) = again.parameters()
    assert prompts.shape == (5, 48)
    again.model(**batch()).last_hidden_state[:, 5:].pow(2).sum().backward()
    assert prompts.grad.any()
    with torch.no_grad():
        prompts.sub_(0.1 * prompts.grad)
    again.save(tmp_path / "second")
    assert not torch.equal(states(again), states(attached))
    assert torch.equal(states(attach_saved(tiny(architecture), tmp_path / "second")), states(again))
    theirs = peft.PeftModel.from_pretrained(tiny(architecture), str(tmp_path / "second")).eval()
    with torch.no_grad():
        assert torch.allclose(theirs(**batch()).last_hidden_state, states(again), atol=1e-5)
