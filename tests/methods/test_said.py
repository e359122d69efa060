"""SAID and DID against projections written out as matrices."""

import copy

import pytest
import torch
from scipy.linalg import hadamard as walsh_hadamard
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.methods.said import Projection, Subspace, transformed
from tests.methods.by_hand import disturbed
from tests.sampled import sampled
from tests.tiny import CONFIGS, batch, tiny


def dense(projection, dimensions, shape):
    """P as a matrix (elements, dimensions), in double precision, from its definition: H G Π H B of full size."""
    normal = projection.normal.double()
    assert normal.square().sum().item() == pytest.approx(1 / shape.numel(), rel=1e-4)
    size, short = len(normal), len(projection.signs)
    h = torch.from_numpy(walsh_hadamard(size)).double()
    columns = (h[:, :short] * projection.signs)[:, :dimensions]
    assert torch.equal(columns, columns[torch.arange(size) % short]), "any permutation with this order is the same"
    columns = h[: shape.numel()] @ (normal[:, None] * columns[projection.order.long()])
    return torch.nn.functional.pad(columns, (0, dimensions - columns.shape[1]))


@pytest.mark.parametrize("size", [1, 2, 32, 64, 128, 2048])
def test_the_transform_multiplies_with_the_walsh_hadamard_matrix(size):
    x = torch.randn(size)
    expected = torch.from_numpy(walsh_hadamard(size)).float() @ x
    assert torch.allclose(transformed(x, Subspace(1, 0).hadamard), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(48,), (5, 20), (96, 2)])
@pytest.mark.parametrize("dimensions", [7, 100])
def test_a_projection_is_linear_and_its_columns_have_about_length_1(shape, dimensions):
    weight = torch.zeros(shape)
    projection = Projection(weight, dimensions, None, seed=3)
    matrix = dense(projection, dimensions, weight.shape).float()
    t, hadamard = torch.randn(dimensions), Subspace(1, 0).hadamard
    assert torch.allclose(projection(t, hadamard, weight.shape).flatten(), matrix @ t, atol=1e-4)
    assert matrix[:, : len(projection.signs)].norm(dim=0).mean() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("groups", sampled(["none", "layer", "tensor"], every=3))
def test_weights_and_gradients_are_those_of_matrices(groups):
    """Merged: θ0 + λ P t. The gradient is Pᵀ of the weights' gradients, whichever the size of a tensor."""
    config = BertConfig(vocab_size=96, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    plain = BertModel(config).eval()
    model = copy.deepcopy(plain)
    attached = disturbed(attach(model, method("said", dimensions=100, groups=groups)))
    space = attached.modules[0]
    vector = space.vector.detach().double().requires_grad_()
    scales = None if groups == "none" else space.scales.detach().double().requires_grad_()
    weights = {}
    for projection, (name, weight) in zip(space.projections, plain.named_parameters(), strict=True):
        scaled = vector if scales is None else scales[projection.group] * vector
        added = (dense(projection, len(vector), weight.shape) @ scaled).view(weight.shape)
        weights[name] = weight.detach() + added.float()
    theirs = torch.func.functional_call(plain, weights, kwargs=batch()).last_hidden_state
    ours = attached.model(**batch()).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-4)
    target = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    for states in (ours, theirs):
        (states * target).sum().backward()
    assert torch.allclose(space.vector.grad, vector.grad.float(), rtol=1e-3, atol=1e-2)
    if scales is not None:
        assert torch.allclose(space.scales.grad, scales.grad.float(), rtol=1e-3, atol=1e-2)
    merged = dict(attached.merge().named_parameters())
    assert all(torch.allclose(merged[name], weight, atol=1e-5) for name, weight in weights.items())


def test_groups_are_the_embeddings_each_layer_and_what_follows():
    attached = attach(tiny("bert"), method("said", dimensions=100, groups="layer"))
    space = attached.modules[0]
    group_of = {
        name: projection.group
        for projection, (name, _) in zip(space.projections, tiny("bert").named_parameters(), strict=True)
    }
    begins = {"embeddings": 0, "encoder.layer.0": 1, "encoder.layer.1": 2, "pooler": 3}
    assert all(group_of[name] == begins[next(b for b in begins if name.startswith(b))] for name in group_of)
    assert (len(space.vector), len(space.scales)) == (96, 4)


def test_scales_learn_from_the_second_step_on():
    attached = attach(tiny("bert"), "said")
    attached.model(**batch()).last_hidden_state.pow(3).sum().backward()
    assert attached.modules[0].vector.grad.any()
    assert not attached.modules[0].scales.grad.any()


def test_tied_weights_are_one_weight():
    model = tiny("bert")
    model.pooler.dense.weight = model.encoder.layer[0].attention.self.query.weight
    attached = disturbed(attach(model, "said"))
    assert len(attached.modules[0].projections) == len(list(model.parameters()))
    with torch.no_grad():
        expected = attached.model(**batch()).pooler_output
        assert torch.allclose(attached.merge()(**batch()).pooler_output, expected, atol=1e-5)


def test_only_vector_and_scales_are_shipped_and_the_projections_come_from_their_seed(tmp_path):
    attached = disturbed(attach(tiny("bert"), method("said", dimensions=300)))
    attached.save(tmp_path)
    torch.manual_seed(99)
    again = attach_saved(tiny("bert"), tmp_path)
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        assert torch.equal(again.model(**batch()).last_hidden_state, expected)
        other = attach(tiny("bert"), method("said", dimensions=300, seed=1))
        for mine, its in zip(other.parameters(), attached.parameters(), strict=True):
            mine.copy_(its)
        assert not torch.allclose(other.model(**batch()).last_hidden_state, expected, atol=1e-2)
    assert (tmp_path / "method.safetensors").stat().st_size < 300 * 4 + 300


def test_projections_are_the_same_under_a_head(tmp_path):
    attached = disturbed(attach(tiny("bert"), "said"))
    attached.save(tmp_path)
    headed = AutoModelForSequenceClassification.from_config(CONFIGS["bert"]()).eval()
    headed.base_model.load_state_dict(tiny("bert").state_dict())
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        attach_saved(headed, tmp_path)
        assert torch.equal(headed.base_model(**batch()).last_hidden_state, expected)


def test_a_forward_pass_that_fails_leaves_the_weights_in_their_places():
    model = tiny("bert")
    before = {name: id(each) for name, each in model.named_parameters()}
    with attach(model, "said") as attached:
        model.encoder.layer[0].intermediate.dense.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            attached.model(**batch())
        assert {name: id(each) for name, each in model.named_parameters()} == before


def test_it_goes_together_with_what_adds_to_the_model():
    model = tiny("bert")
    with attach(model, ["said", "adapter", "prefix_tuning"]) as attached:
        disturbed(attached).model(**batch()).last_hidden_state.pow(2).sum().backward()
        assert all(each.tensor.grad.any() for each in attached.tensors())


def test_on_a_bf16_model_the_vector_is_fp32_and_the_output_bf16():
    attached = attach(tiny("bert").to(torch.bfloat16), "said")
    assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
    states = attached.model(**batch()).last_hidden_state
    assert states.dtype == torch.bfloat16
    states.float().pow(3).sum().backward()
    assert torch.isfinite(attached.modules[0].vector.grad).all()


def test_too_few_dimensions_and_unknown_groups_are_refused():
    with pytest.raises(CannotAttach, match="of 4 dimensions 4 are scales of layers: none remains"):
        attach(tiny("bert"), method("said", dimensions=4))
    with pytest.raises(AutopeftError, match="Did you mean 'layer'"):
        method("said", groups="layers")
