"""SparseAdapter keeps the adapter weights that score highest, and no other weight ever comes back."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu

from autopeft.costs.api import measure, predict
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import Configured, method
from autopeft.methods.sparse_adapter import SCORES, SparseAdapter, SparseLinear
from tests.methods.by_hand import Changes, bert_by_hand, disturbed
from tests.methods.test_fishmask import EXAMPLES, losses_of
from tests.tiny import CONFIGS, batch, tiny


def unpruned(**settings):
    """At a sparsity that the card, which declares what is searched, does not allow."""
    full = {"placement": "houlsby", "sparsity": 0, **settings}
    return Configured("sparse_adapter", "autopeft.methods.sparse_adapter.SparseAdapter", {}, full)


def set_up(model, seed=7, **settings):
    attached = attach(model, method("sparse_adapter", **{"bottleneck": 8, **settings}))
    torch.manual_seed(seed)
    attached.set_up(losses_of(attached))
    return attached


def dense(model, seed=7, **settings):
    """The same adapters with all of the weights that `set_up` draws."""
    attached = attach(model, unpruned(bottleneck=8, **settings))
    torch.manual_seed(seed)
    attached.set_up(lambda *_: iter(()))
    return attached


def matrices(attached, part=0):
    return {name: each for name, each in attached.parts[part].module.named_modules() if isinstance(each, SparseLinear)}


def kept(attached):
    """Whether each weight is there, by matrix."""
    found = {}
    for name, each in matrices(attached).items():
        mask = torch.zeros(each.shape, dtype=torch.bool)
        found[name] = mask.put_(each.indices.long(), torch.ones(len(each.indices), dtype=torch.bool))
    return found


def train(attached, steps=4):
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05, weight_decay=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
        optimizer.step()
    return attached


def scores_by_hand(attached, score):
    """From the definitions: finite differences of gradients for grasp, one autograd pass for the others."""
    values = [each.values for each in matrices(attached).values()]

    def loss():
        return torch.stack([each() for each in losses_of(attached)(EXAMPLES, 8)]).sum()

    if score == "magnitude":
        return [each.detach().abs() for each in values]
    if score == "snip":
        return [(g * w).abs().detach() for g, w in zip(torch.autograd.grad(loss(), values), values, strict=True)]
    if score == "grasp":
        gradients, step = torch.autograd.grad(loss(), values), 1e-2
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for value, gradient in zip(values, gradients, strict=True):
                    value.add_(sign * step * gradient)
            sides.append(torch.autograd.grad(loss(), values))
            with torch.no_grad():
                for value, gradient in zip(values, gradients, strict=True):
                    value.sub_(sign * step * gradient)
        return [w.detach() * (up - down) / (2 * step) for w, up, down in zip(values, *sides, strict=True)]
    assert score == "synflow"
    absolute = [each.weight().detach().abs().requires_grad_() for each in matrices(attached).values()]
    flow = sum((up @ down).sum() for down, up in zip(absolute[::2], absolute[1::2], strict=True))
    return [
        (g * w).abs().detach().flatten() for g, w in zip(torch.autograd.grad(flow, absolute), absolute, strict=True)
    ]


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("score", ["magnitude", "snip", "grasp", "synflow"])
def test_the_weights_with_the_highest_scores_of_all_are_kept(score, architecture):
    scores = torch.cat(scores_by_hand(dense(tiny(architecture), score=score), score))
    attached = set_up(tiny(architecture), score=score, sparsity=0.6)
    mask = torch.cat([each.flatten() for each in kept(attached).values()])
    order = scores.argsort(descending=True)
    count = int(mask.sum())
    assert count == len(scores) - math.ceil(0.6 * len(scores))
    assert mask[order[: int(0.99 * count)]].float().mean() > 0.99
    assert mask[order[int(1.01 * count) :]].float().mean() < 0.01
    assert scores[order[0]] > 0


def test_kept_weights_have_the_values_that_they_were_scored_with():
    whole, attached = dense(tiny("bert")), set_up(tiny("bert"), score="snip")
    for name, mask in kept(attached).items():
        weight = matrices(attached)[name].weight()
        assert torch.equal(weight[mask], matrices(whole)[name].weight()[mask])
        assert not weight[~mask].any()


def test_the_scope_is_all_matrices_together_and_every_score_chooses_otherwise():
    masks = {
        score: torch.cat([m.flatten() for m in kept(set_up(tiny("bert"), score=score)).values()]) for score in SCORES
    }
    assert len({tuple(mask.tolist()) for mask in masks.values()}) == len(SCORES)
    assert len({int(mask.sum()) for mask in masks.values()}) == 1
    shares = {name: float(mask.float().mean()) for name, mask in kept(set_up(tiny("bert"), score="snip")).items()}
    assert max(shares.values()) - min(shares.values()) > 0.05


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("sparsity", [0.1, 0.4, 0.8, 0.999])
def test_the_number_of_weights_is_exact_before_and_after_pruning(sparsity, score):
    attached = attach(tiny("bert"), method("sparse_adapter", bottleneck=5, sparsity=sparsity, score=score))
    size = sum(math.prod(each.shape) for each in matrices(attached).values())
    left = size - math.ceil(round(sparsity * size, 6))
    before = attached.count
    attached.set_up(losses_of(attached))
    assert sum(len(each.values) for each in matrices(attached).values()) == left
    assert attached.count == before == left + 4 * (5 + 48)


def test_u_and_d_begin_away_from_zero_so_that_all_weights_can_be_scored():
    for score in ("snip", "grasp", "synflow"):
        for each in scores_by_hand(dense(tiny("bert")), score):
            assert (each != 0).float().mean() > 0.99
    with torch.no_grad():
        model = tiny("bert")
        bare = model(**batch()).last_hidden_state
        states = attach(model, "sparse_adapter").model(**batch()).last_hidden_state
    assert not torch.equal(states, bare)
    assert torch.allclose(states, bare, atol=0.1)


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer", "parallel", "scaled_parallel"])
def test_without_pruning_it_is_the_dense_adapter(placement):
    sparse = disturbed(attach(tiny("bert"), unpruned(placement=placement, bottleneck=6)))
    adapter = attach(tiny("bert"), method("adapter", placement=placement, bottleneck=6))
    values = {name.replace("values", "weight"): t for name, t in sparse.parts[0].trainable().items()}
    with torch.no_grad():
        for name, tensor in adapter.parts[0].trainable().items():
            tensor.copy_(values[name].view_as(tensor))
    outputs = [attached.model(**batch()).last_hidden_state for attached in (sparse, adapter)]
    assert torch.allclose(*outputs, atol=1e-6)
    for output in outputs:
        output.pow(2).mean().backward()
    for name, tensor in adapter.parts[0].trainable().items():
        assert torch.allclose(values[name].grad.view_as(tensor), tensor.grad, atol=1e-7)


def test_it_computes_its_formula_with_masked_weights():
    attached = disturbed(set_up(tiny("bert"), placement="houlsby"))
    masks, found = kept(attached), matrices(attached)

    def adapted(number, site, x):
        down, up = f"{number}_{site}.down", f"{number}_{site}.up"
        inner = gelu(x @ (masks[down] * found[down].weight()).T + found[down].bias)
        return x + inner @ (masks[up] * found[up].weight()).T + found[up].bias

    changes = Changes(
        attention=lambda i, o, _: adapted(i, "attention", o), feed_forward=lambda i, f, _: adapted(i, "ffn", f)
    )
    with torch.no_grad():
        states = attached.model(**batch()).last_hidden_state
        real = batch()["attention_mask"].bool()
        assert torch.allclose(states[real], bert_by_hand(tiny("bert"), batch(), changes)[real], atol=1e-5)


def test_the_mask_is_fixed_and_pruned_weights_stay_zero_while_training_with_decay():
    attached = set_up(tiny("bert"))
    before = kept(attached)
    train(attached)
    for name, mask in kept(attached).items():
        assert torch.equal(mask, before[name])
        assert not matrices(attached)[name].weight()[~mask].any()


def test_gradients_and_moments_are_those_of_kept_weights_only():
    attached = set_up(tiny("bert"), sparsity=0.8)
    optimizer = torch.optim.AdamW(attached.parameters())
    attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
    optimizer.step()
    assert sum(tensor.grad.numel() for tensor in attached.parameters()) == attached.count
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    assert sum(tensor.numel() for tensor in moments) == attached.count


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_what_is_kept_does_not_depend_on_the_scale_of_the_loss(score):
    masks = []
    for scale in (1.0, 8.0):
        attached = attach(tiny("bert"), method("sparse_adapter", bottleneck=8, score=score))
        torch.manual_seed(7)
        losses = losses_of(attached)
        attached.set_up(
            lambda *given, losses=losses, scale=scale: (lambda e=each: scale * e() for each in losses(*given))
        )
        masks.append(torch.cat([each.flatten() for each in kept(attached).values()]))
    assert (masks[0] != masks[1]).float().mean() < 0.002


@pytest.mark.parametrize("score", SCORES)
def test_samples_bound_the_examples_and_scores_without_data_ask_for_none(score):
    attached, asked = attach(tiny("bert"), method("sparse_adapter", bottleneck=8, score=score, samples=4)), []

    def losses(examples, batch_size):
        asked.append((examples, batch_size))
        yield from losses_of(attached)(examples, batch_size)

    attached.set_up(losses)
    assert asked == [(4, 8)] * {"snip": 1, "grasp": 2}.get(score, 0)


@pytest.mark.parametrize("score", SCORES)
def test_pruning_leaves_no_gradients_modes_or_signs_changed_and_other_parts_alone(score):
    model = tiny("bert").train()
    attached = attach(model, [method("sparse_adapter", score=score), "bitfit"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    attached.set_up(losses_of(attached))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(tensor.grad is None for tensor in (*model.parameters(), *attached.parameters()))
    weights = torch.cat([each.values for each in matrices(attached).values()])
    assert 0.4 < (weights > 0).float().mean() < 0.6


@pytest.mark.parametrize("architecture", CONFIGS)
def test_grasp_differentiates_twice_through_every_architecture_also_beside_methods_of_other_kinds(architecture):
    others = [method("prefix_tuning", length=3), method("far", keep=0.2), method("lora", sites=["q"])]
    if architecture == "gpt2":
        others.pop()
    attached = attach(tiny(architecture), [method("sparse_adapter", score="grasp", bottleneck=8), *others])
    torch.manual_seed(7)
    attached.parts[0].set_up(losses_of(attached))
    assert all(torch.isfinite(tensor).all() for tensor in attached.parameters())


def test_pruning_repeats_under_one_seed_and_differs_under_another():
    one, same, other = (
        torch.cat([m.flatten() for m in kept(set_up(tiny("bert"), seed)).values()]) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_large_sparse_has_as_many_weights_as_a_dense_adapter_of_a_quarter_of_its_width():
    wide = attach(tiny("bert"), method("sparse_adapter", bottleneck=32, sparsity=0.75))
    narrow = attach(tiny("bert"), method("adapter", placement="houlsby", bottleneck=8))
    weights = sum(tensor.numel() for name, tensor in narrow.parts[0].trainable().items() if name.endswith("weight"))
    assert sum(len(each.values) for each in matrices(wide).values()) == weights


def test_a_mask_chosen_on_data_is_saved_with_its_values_and_costs_eight_bytes_a_weight(tmp_path):
    attached = train(set_up(tiny("bert"), sparsity=0.8))
    attached.save(tmp_path)
    file = load_file(tmp_path / "method.safetensors")
    weights = sum(len(each.values) for each in matrices(attached).values())
    assert sum(tensor.numel() * tensor.element_size() for tensor in file.values()) == 4 * attached.count + 4 * weights
    again = attach_saved(tiny("bert"), tmp_path)
    assert all(torch.equal(mask, kept(attached)[name]) for name, mask in kept(again).items())
    with torch.no_grad():
        outputs = [each.model(**batch()).last_hidden_state for each in (attached, again)]
    assert torch.equal(*outputs)


def test_a_matrix_of_which_nothing_is_left_is_neither_trained_nor_saved(tmp_path):
    attached = set_up(tiny("bert"), sparsity=0.999, score="snip")
    empty = {name for name, each in matrices(attached).items() if not len(each.values)}
    assert empty
    assert not any(f"{name}.values" in attached.parts[0].trainable() for name in empty)
    train(attached).save(tmp_path)
    again = attach_saved(tiny("bert"), tmp_path)
    assert {name for name, each in matrices(again).items() if not len(each.values)} == empty
    with torch.no_grad():
        outputs = [each.model(**batch()).last_hidden_state for each in (attached, again)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.pop("0_ffn.down.values"), "weights|entries, not"),
        (lambda file: file.pop("0_ffn.down.values:indices"), "positions of"),
        (lambda file: file["0_ffn.up.values:indices"].add_(100_000), "positions of"),
        (lambda file: file.pop("0_ffn.up.bias"), "in one of them only"),
        (lambda file: file.update({"7_ffn.up.values": file.pop("0_ffn.up.values")}), "it has no '7_ffn"),
    ],
    ids=["values gone", "positions gone", "too far", "bias gone", "of another model"],
)
def test_a_file_that_does_not_fit_is_refused(spoil, said, tmp_path):
    attach(tiny("bert"), "sparse_adapter").save(tmp_path)
    file = load_file(tmp_path / "method.safetensors")
    spoil(file)
    save_file(file, tmp_path / "method.safetensors")
    with pytest.raises(AutopeftError, match=said):
        attach_saved(tiny("bert"), tmp_path)


def test_weights_are_decayed_but_neither_biases_nor_scales():
    attached = attach(tiny("bert"), method("sparse_adapter", placement="scaled_parallel"))
    assert any(each.name.endswith("scale") for each in attached.tensors())
    assert all(each.decay == each.name.endswith("values") for each in attached.tensors())


def test_weights_are_in_fp32_on_a_bf16_model():
    attached = set_up(tiny("bert").to(torch.bfloat16), score="magnitude")
    assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
    states = attached.model(**batch()).last_hidden_state
    assert states.dtype == torch.bfloat16
    states.float().pow(2).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attached.parameters())


def test_a_sparser_adapter_needs_less_memory_and_the_same_operations():
    model = tiny("bert")
    model.pooler = None
    costs = [measure(model, method("sparse_adapter", bottleneck=64, sparsity=each), length=8) for each in (0.8, 0.4)]
    assert costs[0].memory < costs[1].memory
    assert costs[0].flops == costs[1].flops
    wanted = method("sparse_adapter", bottleneck=64, sparsity=0.8)
    assert predict(model, wanted, length=8).memory == pytest.approx(costs[0].memory, rel=0.002)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sparsity": 1.0}, "sparsity must"),
        ({"sparsity": -0.1}, "sparsity must"),
        ({"score": "snap"}, "Did you mean 'snip'"),
        ({"samples": 0}, "samples must"),
        ({"bottleneck": 0}, "bottleneck must"),
        ({"placement": "below"}, "placement"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(AutopeftError, match=said):
        SparseAdapter(**settings)
