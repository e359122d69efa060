"""FishMask trains exactly the entries with the largest Fisher information, and no other entry ever moves."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call, grad
from transformers import AutoModelForCausalLM

from autopeft.costs.api import measure, predict
from autopeft.costs.measure import measure_batch
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.candidate import Training
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from autopeft.training.model import TaskModel
from tests.backbone.architectures import new
from tests.methods.by_hand import disturbed
from tests.sampled import sampled
from tests.tiny import CONFIGS, VOCABULARY, batch, tiny

EXAMPLES = 6


def example(number):
    generator = torch.Generator().manual_seed(100 + number)
    ids = torch.randint(5, VOCABULARY, (1, 4 + number % 3), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def loss(model, number):
    """A log-likelihood of two classes, read off the first state's first two features."""
    states = model(**example(number)).last_hidden_state
    return torch.nn.functional.cross_entropy(8 * states[:, 0, :2], torch.tensor([number % 2]))


def losses_of(attached, order=range(EXAMPLES)):
    """What the training loop hands to `set_up`: batches of at most that many examples."""

    def losses(examples, batch_size):
        numbers = list(order)[:examples]
        for start in range(0, len(numbers), batch_size):
            chunk = numbers[start : start + batch_size]
            yield lambda chunk=chunk: torch.stack([loss(attached.model, each) for each in chunk]).mean()

    return losses


def fisher(model, order=range(EXAMPLES), keep_batches=False):
    """Squared gradients by tensor: of every example alone, or of the mean over all of them."""
    tensors = dict(model.named_parameters())

    def of(tensors, numbers):
        class Swapped(torch.nn.Module):
            def forward(self, **inputs):
                return functional_call(model, tensors, kwargs=inputs)

        return torch.stack([loss(Swapped(), each) for each in numbers]).mean()

    groups = [list(order)] if keep_batches else [[number] for number in order]
    gradients = [grad(of)(tensors, numbers) for numbers in groups]
    return {name: sum(each[name].square() for each in gradients) for name in tensors}


def set_up(model, order=range(EXAMPLES), **settings):
    attached = attach(model, method("fishmask", **settings))
    attached.set_up(losses_of(attached, order))
    return attached


def selected(attached, part=0):
    """Positions by tensor."""
    shipped = attached.parts[part].shipped()
    return {name.removesuffix(":indices"): set(t.tolist()) for name, t in shipped.items() if name.endswith(":indices")}


def train(attached, steps=3, **optimizer):
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05, weight_decay=0.5, **optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
        optimizer.step()
    with torch.no_grad():
        attached.model(**batch())
    return attached


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_mask_holds_the_entries_with_the_largest_squared_gradients_of_single_examples(architecture):
    information = fisher(tiny(architecture))
    attached = set_up(tiny(architecture), keep=0.01)
    everything = torch.cat([each.flatten() for each in information.values()])
    bound = everything.topk(attached.count).values[-1]
    inside = {
        name: set((each.flatten() > bound * 1.001).nonzero().flatten().tolist()) for name, each in information.items()
    }
    reached = {
        name: set((each.flatten() > bound * 0.999).nonzero().flatten().tolist()) for name, each in information.items()
    }
    chosen = selected(attached)
    assert sum(map(len, inside.values())) > 0.9 * attached.count
    assert all(inside[name] <= chosen.get(name, set()) <= reached[name] for name in information)


def test_squares_of_single_examples_are_not_squares_of_their_mean():
    information, of_mean = fisher(tiny("bert")), fisher(tiny("bert"), keep_batches=True)
    attached = set_up(tiny("bert"), keep=0.01)
    everything = torch.cat([each.flatten() for each in of_mean.values()])
    top = set(everything.topk(attached.count).indices.tolist())
    ends = torch.tensor([tensor.numel() for tensor in information.values()]).cumsum(0).tolist()
    offsets = dict(zip(information, [0, *ends[:-1]], strict=True))
    chosen = {offsets[name] + index for name, indices in selected(attached).items() for index in indices}
    assert len(top & chosen) < 0.95 * len(chosen)


def test_the_number_of_entries_is_exact_also_where_all_scores_are_equal():
    model = tiny("bert")
    attached = attach(model, method("fishmask", keep=0.03))
    assert attached.count == int(0.03 * size(model))
    attached.set_up(lambda *_: iter(()))
    assert attached.count == sum(map(len, selected(attached).values())) == int(0.03 * size(model))
    assert attach(tiny("gpt2"), method("fishmask", keep=1e-9)).count == 1


def test_keeping_everything_trains_as_full_fine_tuning_does():
    masked, full = attach(tiny("bert"), method("fishmask", keep=1.0)), attach(tiny("bert"), "full")
    assert masked.count == full.count
    outputs = []
    for attached in (masked, full):
        optimizer = torch.optim.AdamW(attached.parameters(), lr=1e-3, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            attached.model(**batch()).last_hidden_state[:, :, :7].pow(2).mean().backward()
            optimizer.step()
        with torch.no_grad():
            outputs.append(attached.model(**batch()).last_hidden_state)
    assert torch.allclose(*outputs, atol=1e-4)


def test_samples_bound_the_examples_and_each_comes_alone():
    attached = attach(tiny("bert"), method("fishmask", samples=4))
    asked = []

    def losses(examples, batch_size):
        asked.append((examples, batch_size))
        yield from losses_of(attached)(examples, batch_size)

    attached.set_up(losses)
    assert asked == [(4, 1)]
    fewer, other = set_up(tiny("bert"), samples=4), set_up(tiny("bert"), order=range(4))
    assert selected(attached) == selected(fewer) == selected(other)


def test_the_order_of_the_examples_does_not_matter():
    one, other = (
        selected(set_up(tiny("bert"), order=order)) for order in (range(EXAMPLES), range(EXAMPLES - 1, -1, -1))
    )
    differing = sum(len(one.get(name, set()) ^ other.get(name, set())) for name in {*one, *other})
    assert differing <= 2


def test_set_up_leaves_no_gradients_flags_modes_or_values_and_other_parts_alone():
    model = tiny("bert").train()
    attached = attach(model, ["fishmask", "adapter"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    adapter = [tensor.clone() for tensor in attached.parts[1].trainable().values()]
    attached.set_up(losses_of(attached))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert all(
        torch.equal(one, other) for one, other in zip(adapter, attached.parts[1].trainable().values(), strict=True)
    )
    assert all(tensor.grad is None for tensor in attached.parameters())


def test_dropout_is_off_while_the_information_is_gathered():
    masks = []
    for training in (False, True):
        attached = attach(tiny("bert").train(training), "fishmask")
        attached.set_up(losses_of(attached))
        masks.append(selected(attached))
    assert masks[0] == masks[1]


def test_the_mask_differs_from_the_one_without_data_and_is_spread_unevenly():
    model = tiny("bert")
    attached = attach(model, method("fishmask", keep=0.02))
    default = selected(attached)
    shares = {name: 0.02 * parameter.numel() for name, parameter in model.named_parameters()}
    assert all(math.floor(share) <= len(default.get(name, ())) <= math.ceil(share) for name, share in shares.items())
    attached.set_up(losses_of(attached))
    chosen = selected(attached)
    assert chosen != default
    assert any(len(chosen.get(name, ())) > 2 * share + 2 for name, share in shares.items())
    assert "pooler.dense.weight" not in chosen


def test_without_data_every_tensor_s_entries_of_largest_magnitude_are_selected():
    model = tiny("gpt2")
    weight = model.h[0].mlp.c_fc.weight.detach().flatten().abs()
    chosen = selected(attach(model, method("fishmask", keep=0.02)))["h.0.mlp.c_fc.weight"]
    assert set(weight.topk(len(chosen)).indices.tolist()) == chosen


@pytest.mark.parametrize("architecture", CONFIGS)
def test_unselected_entries_are_bit_identical_after_training_with_decay_and_momentum(architecture):
    model, untouched = tiny(architecture), tiny(architecture)
    attached = train(set_up(model, keep=0.01), steps=5)
    chosen, moved = selected(attached), 0
    for (name, after), before in zip(model.named_parameters(), untouched.parameters(), strict=True):
        changed = (after != before).flatten().nonzero().flatten().tolist()
        assert set(changed) <= chosen.get(name, set())
        moved += len(changed)
    assert moved > 0.9 * attached.count


def test_the_mask_is_fixed_while_training():
    attached = set_up(tiny("bert"))
    before = selected(attached)
    assert selected(train(attached)) == before


def test_the_gradient_of_the_values_is_that_of_the_entries():
    attached, model = set_up(tiny("bert"), keep=0.01), tiny("bert")
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    model(**batch()).last_hidden_state.pow(2).mean().backward()
    parameters = dict(model.named_parameters())
    indices = attached.parts[0].shipped()
    for each in attached.tensors():
        expected = parameters[each.name].grad.take(indices[f"{each.name}:indices"].long())
        assert torch.allclose(each.tensor.grad, expected, atol=1e-7)


def test_gradients_are_accumulated_over_backward_passes():
    attached = set_up(tiny("bert"))
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    once = [tensor.grad.clone() for tensor in attached.parameters()]
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    assert all(torch.allclose(t.grad, 2 * one, rtol=1e-3) for t, one in zip(attached.parameters(), once, strict=True))


def test_two_forward_passes_may_come_before_their_backward_passes():
    attached = set_up(tiny("bert"))
    first, second = (attached.model(**batch(seed=seed)).last_hidden_state.pow(2).mean() for seed in (1, 2))
    (first + second).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in attached.parameters())


def test_modules_hold_their_own_parameters_again_after_a_forward_pass_and_after_one_that_failed():
    model = tiny("bert")
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    attached = set_up(model)
    attached.model(**batch())
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before
    with pytest.raises(IndexError):
        attached.model(input_ids=torch.tensor([[VOCABULARY + 1]]))
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before


def test_tied_embeddings_are_selected_once_and_trained_in_both_places():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["gpt2"]()).eval()
    attached = attach(model, method("fishmask", keep=1.0))
    assert attached.count == size(model)
    model(**batch()).logits.pow(2).mean().backward()
    plain = AutoModelForCausalLM.from_config(CONFIGS["gpt2"]()).eval()
    plain.load_state_dict(model.state_dict())
    plain(**batch()).logits.pow(2).mean().backward()
    trained = attached.parts[0].trainable()["transformer.wte.weight"]
    assert torch.allclose(trained.grad, plain.lm_head.weight.grad.flatten(), atol=1e-6)


def test_weights_that_lora_adapts_are_left_to_it_and_merging_keeps_both():
    model = tiny("bert")
    attached = attach(model, [method("fishmask", keep=0.05), "lora"])
    left = size(tiny("bert")) - 4 * (48 * 48 + 48)
    assert sum(tensor.numel() for tensor in attached.parts[0].trainable().values()) == int(0.05 * left)
    assert not any(part in name for name in selected(attached) for part in ("query", "value"))
    disturbed(attached)
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        merged = attached.merge()
        assert torch.allclose(merged(**batch()).last_hidden_state, expected, atol=1e-5)


@pytest.mark.parametrize(
    "others", [["bitfit"], ["norm_tuning", "adapter"], ["top_layers", "prompt_tuning"], ["full"]], ids="+".join
)
def test_beside_other_methods_it_trains_and_comes_off_bit_for_bit(others):
    model, untouched = tiny("bert"), tiny("bert")
    attached = attach(model, ["fishmask", *others])
    attached.set_up(losses_of(attached))
    train(attached)
    attached.detach()
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), untouched.parameters(), strict=True))


def test_where_another_method_trains_the_same_tensor_its_gradient_is_that_of_the_other_entries():
    attached = attach(tiny("bert"), [method("fishmask", keep=0.05), "full"])
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    masked, full = (part.trainable() for part in attached.parts)
    indices = attached.parts[0].shipped()
    model = tiny("bert")
    model(**batch()).last_hidden_state.pow(2).mean().backward()
    for name, parameter in model.named_parameters():
        if name in masked and parameter.grad is not None:
            positions = indices[f"{name}:indices"].long()
            assert torch.allclose(masked[name].grad, parameter.grad.take(positions), atol=1e-7)
            assert not full[name].grad.take(positions).any()
            others = parameter.grad.put(positions, torch.zeros(len(positions)))
            assert torch.allclose(full[name].grad, others, atol=1e-7)


def test_merging_writes_values_that_no_forward_pass_has_written_yet():
    model = tiny("bert")
    attached = disturbed(set_up(model))
    values = {each.name: each.tensor.detach().clone() for each in attached.tensors()}
    indices = {name: tensor.long() for name, tensor in attached.parts[0].shipped().items()}
    attached.merge()
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name].take(indices[f"{name}:indices"]), value) for name, value in values.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_mask_chosen_on_data_is_saved_with_its_values_and_costs_eight_bytes_an_entry(tmp_path):
    attached = train(set_up(tiny("bert"), keep=0.01))
    attached.save(tmp_path)
    file = load_file(tmp_path / "method.safetensors")
    assert {tensor.dtype for tensor in file.values()} == {torch.float32, torch.int32}
    assert sum(tensor.numel() * tensor.element_size() for tensor in file.values()) == 8 * attached.count
    model = tiny("bert")
    again = attach_saved(model, tmp_path)
    assert selected(again) == selected(attached)
    assert all(torch.equal(*pair) for pair in zip(attached.parameters(), again.parameters(), strict=True))
    again.detach()
    assert all(
        torch.equal(one, other) for one, other in zip(model.parameters(), tiny("bert").parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.pop("embeddings.word_embeddings.weight"), "entries, not"),
        (lambda file: file.pop("embeddings.word_embeddings.weight:indices"), "positions of"),
        (lambda file: file["embeddings.word_embeddings.weight:indices"].add_(10_000), "positions of"),
        (lambda file: file["embeddings.word_embeddings.weight:indices"].neg_(), "positions of"),
        (lambda file: file.update(other=file.pop("embeddings.word_embeddings.weight")), "it has no 'other'"),
    ],
    ids=["values gone", "positions gone", "too far", "negative", "of another model"],
)
def test_a_file_that_does_not_fit_is_refused_and_the_model_as_it_was(spoil, said, tmp_path):
    attach(tiny("bert"), "fishmask").save(tmp_path)
    file = load_file(tmp_path / "method.safetensors")
    spoil(file)
    save_file(file, tmp_path / "method.safetensors")
    model = tiny("bert")
    with pytest.raises(AutopeftError, match=said):
        attach_saved(model, tmp_path)
    assert all(
        torch.equal(one, other) for one, other in zip(model.parameters(), tiny("bert").parameters(), strict=True)
    )


def test_norms_and_biases_are_not_decayed_but_entries_of_matrices_are():
    model = tiny("bert")
    attached = attach(model, method("fishmask", keep=0.05))
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    assert all(each.decay == (shapes[each.name] > 1) for each in attached.tensors())


def measured_step(attached, *, batch_size, length, gradient_checkpointing=False):
    """The costs of a step, without the calibration before it."""
    task = TextClassification(("text",), ("no", "yes"))
    training = Training(batch_size=batch_size, gradient_checkpointing=gradient_checkpointing)
    ids = torch.ones((batch_size, length), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    classifier = TaskModel(attached.model, task.new_head(48, training), attached)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(batch_size) % 2}
    return measure_batch(classifier, inputs, training, torch.device("cpu"))


@pytest.mark.parametrize(("architecture", "checkpointing"), sampled(CONFIGS, [False, True], every=4))
def test_predicted_memory_is_the_measured_one_and_far_below_that_of_full_fine_tuning(
    architecture, checkpointing, monkeypatch
):
    model = tiny(architecture)
    if hasattr(model, "pooler"):
        model.pooler = None
    given = {"batch_size": 2, "length": 8, "gradient_checkpointing": checkpointing}
    predicted, measured = predict(model, "fishmask", **given), measure(model, "fishmask", **given)
    assert predicted.memory == pytest.approx(measured.memory, rel=0.002)
    assert predicted.stored == measured.stored == 8 * predicted.trainable
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    full = measure(model, "full", **given)
    with attach(model, "fishmask") as attached:
        step = measured_step(attached, **given)
    weights = 4 * size(model)
    assert full.memory > 3.9 * weights
    assert step.memory < full.memory - 2 * weights


def test_with_data_the_memory_is_at_most_the_one_predicted_without():
    model = tiny("bert")
    model.pooler = None
    given = {"batch_size": 16, "length": 16}
    predicted = predict(model, "fishmask", **given)
    measured = measured_step(set_up(model), **given)
    assert 0.9 * predicted.memory < measured.memory <= predicted.memory
    assert (measured.trainable, measured.stored) == (predicted.trainable, predicted.stored)


@pytest.mark.parametrize("architecture", ["albert", "deberta-v2", "t5", "modernbert", "qwen3"])
def test_it_trains_on_other_architectures(architecture):
    model = new(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attached = train(set_up(model, keep=0.02))
    assert sum(tensor.grad is not None for tensor in attached.parameters()) > 0
    changed = sum(int((tensor != before[name]).sum()) for name, tensor in model.named_parameters())
    assert 0 < changed <= attached.count
    attached.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("settings", [{"keep": 0.0}, {"keep": 1.5}, {"keep": -0.1}, {"samples": 0}])
def test_settings_that_select_nothing_are_refused(settings):
    with pytest.raises(AutopeftError, match=next(iter(settings))):
        method("fishmask", **settings)
