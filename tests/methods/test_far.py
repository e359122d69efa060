"""FAR trains the rows of the feed-forward that priming moves farthest, and no other row ever moves."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from autopeft.backbone.find import find_sites
from autopeft.costs.api import measure, predict
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.backbone.architectures import new
from tests.methods.by_hand import disturbed
from tests.methods.test_fishmask import losses_of, measured_step, size, train
from tests.sampled import sampled
from tests.tiny import CONFIGS, batch, tiny

UP, DOWN = "encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense"


def set_up(model, order=range(40), **settings):
    attached = attach(model, method("far", **settings))
    attached.set_up(losses_of(attached, order))
    return attached


def rows(attached, part=0):
    """Numbers of the learner rows by Linear."""
    shipped = attached.parts[part].shipped()
    return {name.removesuffix(":rows"): t.tolist() for name, t in shipped.items() if name.endswith(":rows")}


def by_row(model, path):
    module = model.get_submodule(path)
    return module.weight.T if isinstance(module, Conv1D) else module.weight


def feed_forward(model):
    sites = find_sites(model)
    places = [place for site in ("ffn.up", "ffn.gate", "ffn.down") for place in sites.places.get(site, ())]
    return [place.path for place in places]


def parameters_of(model):
    return [each for path in feed_forward(model) for each in model.get_submodule(path).parameters()]


def primed_by_hand(model, order=range(40)):
    """Ordinary fine-tuning of the feed-forward, and how far that moved every row."""
    tuned = parameters_of(model)
    before = {path: by_row(model, path).detach().clone() for path in feed_forward(model)}
    optimizer = torch.optim.AdamW(tuned, lr=5e-5, weight_decay=0.0)

    class Bare:
        pass

    bare = Bare()
    bare.model = model
    for loss in losses_of(bare, order)(1024, 16):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return {path: (by_row(model, path).detach() - before[path]).abs().sum(1) for path in before}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_learners_are_the_rows_that_ordinary_fine_tuning_moves_farthest(architecture):
    moved = primed_by_hand(tiny(architecture))
    chosen = rows(set_up(tiny(architecture), keep=0.25))
    assert list(chosen) == feed_forward(tiny(architecture))
    for path, change in moved.items():
        assert len(chosen[path]) == len(change) // 4
        bound = change.topk(len(chosen[path])).values[-1]
        assert set((change > bound * 1.001).nonzero().flatten().tolist()) <= set(chosen[path])
        assert set(chosen[path]) <= set((change > bound * 0.999).nonzero().flatten().tolist())


def test_training_goes_on_from_the_primed_values_or_from_the_backbone_s():
    primed = tiny("bert")
    primed_by_hand(primed)
    learned = set_up(tiny("bert"))
    restarted = set_up(tiny("bert"), resume_from="base")
    assert rows(learned) == rows(restarted)
    for path, numbers in rows(learned).items():
        values = learned.parts[0].trainable()[f"{path}.weight"]
        assert torch.allclose(values, by_row(primed, path)[numbers], atol=1e-6)
        assert torch.allclose(
            learned.parts[0].trainable()[f"{path}.bias"], primed.get_submodule(path).bias[numbers], atol=1e-6
        )
        assert not torch.equal(values, by_row(tiny("bert"), path)[numbers])
        assert torch.equal(restarted.parts[0].trainable()[f"{path}.weight"], by_row(tiny("bert"), path)[numbers])


def test_the_linear_is_one_of_learners_and_one_of_others_joined_and_put_back_in_order():
    model, plain = tiny("bert"), tiny("bert")
    attached = disturbed(set_up(model, keep=0.25))
    trained = attached.parts[0].trainable()
    x = torch.randn(3, 7, 48)
    learners = torch.tensor(rows(attached)[UP])
    module = plain.get_submodule(UP)
    others = torch.tensor([number for number in range(96) if number not in learners])
    joined = torch.cat(
        [
            linear(x, trained[f"{UP}.weight"], trained[f"{UP}.bias"]),
            linear(x, module.weight[others], module.bias[others]),
        ],
        dim=-1,
    )
    order = torch.cat([learners, others]).argsort()
    assert torch.allclose(model.get_submodule(UP)(x), joined[..., order], atol=1e-6)
    assert not torch.allclose(plain.get_submodule(UP)(x), joined[..., order], atol=1e-2)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_learners_gradient_is_that_of_their_rows_and_no_frozen_row_has_one(architecture):
    model, plain = tiny(architecture), tiny(architecture)
    attached = attach(model, method("far", keep=0.25))
    with torch.no_grad():
        attached.model(**batch())
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    plain(**batch()).last_hidden_state.pow(2).mean().backward()
    trained = attached.parts[0].trainable()
    for path, numbers in rows(attached).items():
        module = plain.get_submodule(path)
        whole = module.weight.grad.T if isinstance(module, Conv1D) else module.weight.grad
        assert torch.allclose(trained[f"{path}.weight"].grad, whole[numbers], atol=1e-7)
        if module.bias is not None:
            assert torch.allclose(trained[f"{path}.bias"].grad, module.bias.grad[numbers], atol=1e-7)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


def test_what_other_methods_do_to_the_output_is_part_of_the_gradient_whoever_came_first():
    gradients = []
    for far in (True, False):
        model = tiny("bert")
        model.get_submodule(UP).register_forward_hook(lambda _, __, output: output * output)
        attached = attach(model, method("far", keep=1.0)) if far else None
        model(**batch()).last_hidden_state.pow(2).mean().backward()
        weight = attached.parts[0].trainable()[f"{UP}.weight"] if attached else model.get_submodule(UP).weight
        gradients.append(weight.grad)
    assert torch.allclose(*gradients, atol=1e-7)


def test_what_follows_may_change_the_output_in_place():
    model = tiny("bert")
    attached = attach(model, "far")
    model.get_submodule(UP).register_forward_hook(lambda _, __, output: output.mul_(2))
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    assert all(tensor.grad.any() for tensor in attached.parameters())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_frozen_rows_are_bit_identical_after_training_with_decay_and_momentum(architecture):
    model, untouched = tiny(architecture), tiny(architecture)
    attached = train(set_up(model, keep=0.2), steps=5)
    chosen, moved = rows(attached), 0
    for name, before in untouched.named_parameters():
        path, _, leaf = name.rpartition(".")
        after = model.get_parameter(name)
        if path in chosen:
            if leaf == "weight":
                before, after = by_row(untouched, path), by_row(model, path)
            others = [number for number in range(len(before)) if number not in chosen[path]]
            assert torch.equal(before[others], after[others])
            moved += int((before[chosen[path]] != after[chosen[path]]).sum())
        else:
            assert torch.equal(before, after)
    assert moved > 0.99 * attached.count


def test_keeping_all_rows_trains_as_fine_tuning_the_feed_forward_does():
    model, plain = tiny("bert"), tiny("bert")
    attached = set_up(model, keep=1.0, resume_from="base")
    plain.requires_grad_(False)
    tuned = parameters_of(plain)
    for each in tuned:
        each.requires_grad_(True)
    outputs = []
    for bert, tensors in ((attached.model, list(attached.parameters())), (plain, tuned)):
        optimizer = torch.optim.AdamW(tensors, lr=1e-3, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            bert(**batch()).last_hidden_state[:, :, :7].pow(2).mean().backward()
            optimizer.step()
        with torch.no_grad():
            outputs.append(bert(**batch()).last_hidden_state)
    assert torch.allclose(*outputs, atol=1e-5)


def test_without_priming_and_data_the_first_rows_and_those_of_largest_weights_are_taken():
    attached = attach(tiny("bert"), method("far", keep=0.1))
    sums = tiny("bert").get_submodule(UP).weight.abs().sum(1)
    assert rows(attached)[UP] == sorted(sums.topk(9).indices.tolist())
    attached.set_up(lambda *_: iter(()))
    assert rows(attached)[UP] == list(range(9))
    assert rows(attach(tiny("bert"), method("far", keep=1e-9)))[DOWN] != []


def test_samples_bound_the_examples_of_priming():
    attached, asked = attach(tiny("bert"), method("far", samples=20)), []

    def losses(examples, batch_size):
        asked.append((examples, batch_size))
        yield from losses_of(attached, range(40))(examples, batch_size)

    attached.set_up(losses)
    assert asked == [(20, 16)]
    assert rows(attached) == rows(set_up(tiny("bert"), order=range(20)))


@pytest.mark.parametrize("fails", [False, True])
def test_priming_leaves_no_gradients_flags_modes_or_values_and_other_parts_alone(fails):
    model = tiny("bert").train()
    attached = attach(model, ["far", "adapter"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    adapter = [tensor.clone() for tensor in attached.parts[1].trainable().values()]

    def losses(examples, batch_size):
        for loss in losses_of(attached, range(40))(examples, batch_size):
            assert all(parameter.grad is None for parameter in model.parameters())
            yield loss
        if fails:
            raise ValueError("no more data")

    if fails:
        with pytest.raises(ValueError, match="no more data"):
            attached.set_up(losses)
    else:
        attached.set_up(losses)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert all(
        torch.equal(one, other) for one, other in zip(adapter, attached.parts[1].trainable().values(), strict=True)
    )
    assert all(tensor.grad is None for tensor in attached.parameters())
    attached.model(**batch())
    attached.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_everything_else_is_trained_beside_it_where_asked_and_comes_off_bit_for_bit():
    model, untouched = tiny("bert"), tiny("bert")
    attached = set_up(model, keep=0.25, train_non_ffn=True)
    outside = size(model) - sum(parameter.numel() for parameter in parameters_of(model))
    assert attached.count == outside + set_up(tiny("bert"), keep=0.25).count
    primed = model.get_submodule("encoder.layer.0.attention.self.query").weight
    assert not torch.equal(primed, untouched.get_submodule("encoder.layer.0.attention.self.query").weight)
    train(attached).detach()
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), untouched.parameters(), strict=True))
    set_up(model, train_non_ffn=True, resume_from="base")
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), untouched.parameters(), strict=True))


def test_only_chosen_layers_are_reconfigured():
    assert list(rows(attach(tiny("bert"), method("far", layers="first 1")))) == [UP, DOWN]


def test_fused_and_gated_feed_forwards_are_reconfigured_whole():
    assert {path.rpartition(".")[2] for path in rows(attach(tiny("llama"), "far"))} == {
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    model = new("phi3")
    assert all(path.endswith(("gate_up_proj", "down_proj")) for path in rows(set_up(model)))


@pytest.mark.parametrize("architecture", ["albert", "distilbert", "deberta-v2", "modernbert", "qwen3"])
def test_it_trains_on_other_architectures(architecture):
    model = new(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attached = train(set_up(model))
    assert all(tensor.grad.any() for tensor in attached.parameters())
    changed = sum(int((tensor != before[name]).sum()) for name, tensor in model.named_parameters())
    assert 0 < changed <= attached.count
    attached.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradients_are_accumulated_and_two_forward_passes_may_come_before_their_backward_passes():
    attached = set_up(tiny("bert"))
    first, second = (attached.model(**batch()).last_hidden_state.pow(2).mean() for _ in range(2))
    first.backward()
    once = [tensor.grad.clone() for tensor in attached.parameters()]
    second.backward()
    assert all(torch.allclose(t.grad, 2 * one, rtol=1e-3) for t, one in zip(attached.parameters(), once, strict=True))


def test_linears_that_lora_adapts_are_left_to_it_and_merging_keeps_both():
    model = tiny("bert")
    attached = attach(model, ["far", method("lora", sites=["q", "ffn.up"])])
    assert all(path.endswith("output.dense") for path in rows(attached))
    disturbed(attached)
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        merged = attached.merge()
        assert torch.allclose(merged(**batch()).last_hidden_state, expected, atol=1e-5)


def test_where_nothing_is_left_to_train_it_says_so():
    with pytest.raises(CannotAttach, match="FAR finds no feed-forward weights to train in BertModel"):
        attach(tiny("bert"), ["far", method("lora", sites=["ffn.up", "ffn.down"])])
    model = tiny("llama")
    sites = find_sites(model)
    for path in feed_forward(model):
        module = model.get_submodule(path)
        module.weight = torch.nn.Parameter(module.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(CannotAttach, match="they are quantised"):
        attach(model, "far", sites)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "others", [["bitfit"], ["fishmask"], ["norm_tuning", "adapter"], ["top_layers"], ["ia3"], ["full"]], ids="+".join
)
def test_beside_other_methods_it_trains_merges_and_comes_off_bit_for_bit(others, first):
    names = ["far", *others] if first else [*others, "far"]
    model, untouched = tiny("bert"), tiny("bert")
    attached = attach(model, names)
    attached.set_up(losses_of(attached))
    train(attached)
    attached.detach()
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), untouched.parameters(), strict=True))
    if "adapter" not in others:
        attached = attach(model, names)
        attached.set_up(losses_of(attached))
        train(attached)
        with torch.no_grad():
            expected = attached.model(**batch()).last_hidden_state
            assert torch.allclose(attached.merge()(**batch()).last_hidden_state, expected, atol=1e-5)


def test_merging_writes_values_that_no_forward_pass_has_written_yet():
    model = tiny("bert")
    attached = disturbed(set_up(model))
    values, chosen = {each.name: each.tensor.detach().clone() for each in attached.tensors()}, rows(attached)
    attached.merge()
    for path, numbers in chosen.items():
        assert torch.equal(by_row(model, path)[numbers], values[f"{path}.weight"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_learners_chosen_on_data_are_saved_with_their_values_and_cost_four_bytes_a_row_more(tmp_path):
    attached = train(set_up(tiny("bert")))
    attached.save(tmp_path)
    file = load_file(tmp_path / "method.safetensors")
    numbers = sum(map(len, rows(attached).values()))
    assert sum(tensor.numel() * tensor.element_size() for tensor in file.values()) == 4 * (attached.count + numbers)
    model = tiny("bert")
    again = attach_saved(model, tmp_path)
    assert rows(again) == rows(attached)
    assert all(torch.equal(*pair) for pair in zip(attached.parameters(), again.parameters(), strict=True))
    again.model(**batch())
    again.detach()
    assert all(
        torch.equal(one, other) for one, other in zip(model.parameters(), tiny("bert").parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file[f"{UP}:rows"].add_(96), "is damaged"),
        (lambda file: file[f"{UP}:rows"].neg_(), "is damaged"),
        (lambda file: file[f"{UP}:rows"].fill_(3), "is damaged"),
        (lambda file: file.pop(f"{UP}:rows"), "in one of them only"),
        (lambda file: file.update({f"{UP}.bias": torch.zeros(3)}), "has shape"),
    ],
    ids=["too far", "negative", "twice", "rows gone", "of another model"],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(spoil, said, tmp_path):
    attach(tiny("bert"), "far").save(tmp_path)
    file = load_file(tmp_path / "method.safetensors")
    spoil(file)
    save_file(file, tmp_path / "method.safetensors")
    attached = disturbed(set_up(tiny("bert")))
    before = {name: tensor.clone() for name, tensor in attached.parts[0].shipped().items()}
    with pytest.raises(AutopeftError, match=said):
        attached.load(tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in attached.parts[0].shipped().items())


def test_biases_are_not_decayed_but_learners_weights_are_even_of_a_single_row():
    attached = attach(tiny("bert"), method("far", keep=0.01))
    assert all(each.decay == each.name.endswith("weight") for each in attached.tensors())


@pytest.mark.parametrize(("architecture", "checkpointing"), sampled(CONFIGS, [False, True], every=4))
def test_gradients_and_moments_are_the_learners_only_and_prediction_knows_it(architecture, checkpointing):
    model = tiny(architecture)
    if hasattr(model, "pooler"):
        model.pooler = None
    given = {"batch_size": 2, "length": 8, "gradient_checkpointing": checkpointing}
    with attach(model, "far") as attached:
        measured = measured_step(attached, **given)
    predicted = predict(model, "far", **given)
    assert predicted.memory == pytest.approx(measure(model, "far", **given).memory, rel=0.002)
    assert predicted.stored == measured.stored
    head = 2 * 48 + 2
    assert measured.memory_by_part["optimizer"] <= 8 * (measured.trainable + head) + 1024
    assert measured.memory_by_part["gradients"] <= 4 * (measured.trainable + head)
    with attach(model, method("far", keep=1.0)) as attached:
        whole = measured_step(attached, **given)
    assert measured.memory < whole.memory - 0.8 * 12 * (whole.trainable - measured.trainable)
    assert measured.flops < whole.flops


def test_with_a_large_batch_the_step_needs_more_than_the_priming_before_it():
    model = tiny("bert")
    model.pooler = None
    with attach(model, "far") as attached:
        step = measured_step(attached, batch_size=64, length=32)
    predicted = predict(model, "far", batch_size=64, length=32)
    assert predicted.memory == pytest.approx(step.memory, rel=0.002)


@pytest.mark.parametrize("settings", [{"keep": 0.0}, {"keep": 1.5}, {"samples": 0}, {"resume_from": "start"}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(AutopeftError, match=next(iter(settings)).removesuffix("_from").replace("resume", "start")):
        method("far", **settings)
