"""AdaMix: which expert computes, what the second pass adds to the loss, and what is kept."""

import pytest
import torch
from torch.nn.functional import gelu, linear

from autopeft.errors import AutopeftError
from autopeft.methods.adamix import AdaMix, Mixture, inconsistency
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.tasks.heads import kullback_leibler
from tests.methods.by_hand import Changes, bert_by_hand, disturbed
from tests.tiny import CONFIGS, batch, tiny


def divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return kullback_leibler(one, other) / len(one)


def without_dropout(model, probability=0.0):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
    return model


def states(attached):
    with torch.no_grad():
        return attached.model(**batch()).last_hidden_state


def expert(mixture, number, x):
    return linear(gelu(linear(x, mixture.down[number], mixture.down_bias[number])), mixture.up, mixture.up_bias)


def mixture(experts=4, seed=0):
    torch.manual_seed(seed)
    made = Mixture(6, 5, experts)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def test_in_evaluation_an_adapter_of_the_experts_average_weights_follows_the_feed_forward():
    attached = disturbed(attach(tiny("bert"), method("adamix", bottleneck=6)))
    tensors = attached.parts[0].trainable()

    def adapter(number, f):
        down, bias = tensors[f"{number}.down"].mean(0), tensors[f"{number}.down_bias"].mean(0)
        return linear(gelu(linear(f, down, bias)), tensors[f"{number}.up"], tensors[f"{number}.up_bias"])

    changes = Changes(feed_forward=lambda number, f, _: f + adapter(number, f))
    real = batch()["attention_mask"].bool()
    with torch.no_grad():
        assert torch.allclose(states(attached)[real], bert_by_hand(tiny("bert"), batch(), changes)[real], atol=1e-5)


def test_the_average_of_weights_is_not_that_of_outputs():
    mixed, x = mixture(), torch.randn(3, 6)
    outputs = torch.stack([expert(mixed, number, x) for number in range(4)])
    assert not torch.allclose(mixed(x, draws=False), outputs.mean(0), atol=1e-2)


def test_in_training_one_expert_is_drawn_for_the_whole_batch_and_each_as_often():
    mixed, x = mixture(), torch.randn(1, 6).expand(8, 6)
    outputs = torch.stack([expert(mixed, number, x) for number in range(4)])
    torch.manual_seed(0)
    counts = [0] * 4
    for _ in range(400):
        output = mixed(x, draws=True)
        fitting = [torch.allclose(output, each, atol=1e-5) for each in outputs]
        assert sum(fitting) == 1
        counts[fitting.index(True)] += 1
    assert all(70 < count < 130 for count in counts)


def test_every_layer_draws_for_itself():
    attached = disturbed(attach(without_dropout(tiny("bert")), method("adamix", experts=2)))
    attached.model.train()
    torch.manual_seed(0)
    assert len({states(attached).sum().item() for _ in range(40)}) == 4, "two experts in each of two layers"


def test_experts_that_were_not_drawn_get_no_gradient():
    attached = disturbed(attach(without_dropout(tiny("bert")), "adamix"))
    attached.model.train()
    attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
    for number in ("0", "1"):
        mixed = attached.modules[0][number]
        assert mixed.down.grad.flatten(1).any(1).sum() == 1
        assert torch.equal(mixed.down.grad.flatten(1).any(1), mixed.down_bias.grad.any(1))


def test_passes_differ_in_training_and_not_in_evaluation():
    attached = disturbed(attach(without_dropout(tiny("bert")), "adamix"))
    assert torch.equal(states(attached), states(attached))
    attached.model.train()
    torch.manual_seed(1)
    assert len({states(attached).sum().item() for _ in range(5)}) > 1


def test_one_expert_is_an_adapter_in_training_too():
    attached = disturbed(attach(without_dropout(tiny("bert")), method("adamix", experts=1, consistency=0.0)))
    evaluated = states(attached)
    attached.model.train()
    assert torch.allclose(states(attached), evaluated, atol=1e-6)
    assert attached.extra_loss(torch.zeros(3, 2), lambda: torch.zeros(3, 2), divergence) is None


def test_it_comes_before_the_dropout_of_the_feed_forward():
    model = without_dropout(tiny("bert"), 1.0)
    attached, seen = disturbed(attach(model, "adamix")), []
    for each in attached.modules[0].values():
        each.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    dropped = []
    model.encoder.layer[0].output.dropout.register_forward_hook(lambda _, __, output: dropped.append(output))
    model.train()
    attached.model(**batch())
    assert all(f.any() and a.any() for f, a in seen)
    assert not dropped[0].any()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_gradient_checkpointing_repeats_the_draws(architecture):
    for seed in range(4):
        gradients = []
        for checkpointed in (False, True):
            torch.manual_seed(0)
            model = without_dropout(tiny(architecture), 0.1)
            attached = disturbed(attach(model, "adamix"))
            if checkpointed:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.train()
            torch.manual_seed(seed)
            logits = attached.model(**batch()).last_hidden_state[:, 0, :3]
            extra = attached.extra_loss(
                logits, lambda run=attached.model: run(**batch()).last_hidden_state[:, 0, :3], divergence
            )
            (logits.pow(2).sum() + extra).backward()
            gradients.append([parameter.grad for parameter in attached.parameters()])
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


def test_the_extra_loss_is_the_weighted_inconsistency_of_two_passes():
    for weight in (0.5, 1.0):
        attached = attach(tiny("bert"), method("adamix", consistency=weight))
        one, other = torch.randn(4, 3), torch.randn(4, 3)
        extra = attached.extra_loss(one, lambda: other, divergence)  # noqa: B023
        assert torch.allclose(extra, weight * inconsistency(one, other, divergence))
    assert attach(tiny("bert"), method("adamix", consistency=0.0)).extra_loss(one, lambda: 1 / 0, divergence) is None


def test_inconsistency_is_half_the_symmetric_divergence():
    torch.manual_seed(0)
    one, other = torch.randn(5, 3), torch.randn(5, 3)
    p, q = one.softmax(-1), other.softmax(-1)
    expected = 0.5 * ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)).mean()
    assert torch.allclose(inconsistency(one, other, divergence), expected, atol=1e-6)
    assert torch.allclose(inconsistency(one, other, divergence), inconsistency(other, one, divergence), atol=1e-6)
    assert inconsistency(one, one, divergence).abs() < 1e-6
    assert inconsistency(one, other, divergence) > 0


def test_no_gradient_flows_into_the_targets():
    torch.manual_seed(0)
    one, other = (torch.randn(5, 3, requires_grad=True) for _ in range(2))
    inconsistency(one, other, divergence).backward()
    p, q = one.detach().softmax(-1), other.detach().softmax(-1)
    assert torch.allclose(one.grad, 0.5 * (p - q) / 5, atol=1e-6), "the gradient of cross-entropy with soft labels"
    assert torch.allclose(other.grad, 0.5 * (q - p) / 5, atol=1e-6)


@pytest.mark.parametrize("experts", [2, 3, 4, 8])
def test_only_the_average_is_saved_and_loaded_into_every_expert(experts, tmp_path):
    what = method("adamix", experts=experts, bottleneck=6)
    attached = disturbed(attach(tiny("bert"), what))
    shipped = attached.parts[0].shipped()
    mixed = attached.modules[0]["1"]
    assert torch.allclose(shipped["1.down"], mixed.down.mean(0), atol=1e-6)
    assert torch.allclose(shipped["1.down_bias"], mixed.down_bias.mean(0), atol=1e-6)
    assert sum(tensor.numel() for tensor in shipped.values()) == 2 * (2 * 48 * 6 + 6 + 48)
    attached.save(tmp_path)
    again = attach_saved(tiny("bert"), tmp_path)
    assert torch.equal(states(again), states(attached))
    assert again.count == attached.count
    assert all(torch.equal(each, shipped["0.down"]) for each in again.modules[0]["0"].down)
    other_count = attach(tiny("bert"), method("adamix", experts=experts + 1, bottleneck=6)).load(tmp_path)
    assert torch.equal(states(other_count), states(attached))


def test_an_adapter_of_another_width_is_refused_and_nothing_is_changed(tmp_path):
    attach(tiny("bert"), method("adamix", bottleneck=6)).save(tmp_path)
    attached = disturbed(attach(tiny("bert"), method("adamix", bottleneck=7)))
    before = states(attached)
    with pytest.raises(AutopeftError, match=r"'0\.down' has shape \(6, 48\), here it is \(7, 48\)"):
        attached.load(tmp_path)
    assert torch.equal(states(attached), before)


def test_experts_begin_different_and_their_biases_are_not_decayed():
    attached = attach(tiny("bert"), "adamix")
    experts = attached.modules[0]["0"].down
    assert len({each.sum().item() for each in experts}) == 4
    assert {each.name for each in attached.tensors() if not each.decay} == {
        f"{number}.{name}" for number in (0, 1) for name in ("down_bias", "up_bias")
    }


def test_it_goes_with_lora_on_the_same_projection_and_with_prefixes():
    model = tiny("bert")
    bare = model(**batch()).last_hidden_state
    attached = attach(model, ["adamix", method("lora", sites=["ffn.down"]), "prefix_tuning"])
    attached = disturbed(attached)
    model.train()
    attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
    assert all(parameter.grad.any() for parameter in attached.parameters())
    attached.detach()
    assert torch.equal(model.eval()(**batch()).last_hidden_state, bare)


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"experts": 1}, "one expert has nothing to be consistent with: set consistency to 0, or more experts."),
        ({"experts": 0}, "experts of adamix must be above 0, not 0."),
        ({"consistency": -1.0}, "consistency of adamix must not be below 0, not -1.0."),
        ({"bottleneck": 0}, "bottleneck of adamix must be above 0, not 0."),
    ],
)
def test_a_setting_that_makes_no_sense_is_answered(settings, answer):
    with pytest.raises(AutopeftError) as caught:
        method("adamix", **settings)
    assert str(caught.value) == answer


@pytest.mark.parametrize("settings", [{"bottleneck": 0}, {"experts": 0}, {"consistency": -1.0}])
def test_a_method_that_makes_no_sense_is_not_built(settings):
    with pytest.raises(AutopeftError, match=next(iter(settings))):
        AdaMix(**settings)
