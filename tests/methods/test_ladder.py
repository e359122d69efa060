"""The ladder against its formula written out, what it keeps of the backbone's pass (nothing), and what it refuses."""

from contextlib import contextmanager

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertModel, GPT2LMHeadModel

from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.space import load_space
from autopeft.tasks.text_classification import TextClassification
from tests.backbone.architectures import Stranger, new
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

OTHERS = [name for name in (*load_cards(), *load_hybrids(load_cards())) if name != "ladder"]
HALF = {"reduction": 2, "layers": "all"}


def deep(layers, seed=0):
    config = BertConfig(vocab_size=96, hidden_size=48, num_hidden_layers=layers, num_attention_heads=4)
    config.intermediate_size = 96
    torch.manual_seed(seed)
    return BertModel(config, add_pooling_layer=False).eval()


def states(attached, inputs=None):
    return attached.model(**(inputs or batch())).last_hidden_state


@contextmanager
def kept_for_backward():
    """Sizes of the storages that the forward pass keeps for the backward pass, each once."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def losses_of(attached, examples=4):
    """What the training loop hands to `set_up`."""

    def loss(number):
        ids = torch.randint(5, 96, (1, 6), generator=torch.Generator().manual_seed(number))
        first = attached.model(input_ids=ids).last_hidden_state[:, 0, :2]
        return torch.nn.functional.cross_entropy(8 * first, torch.tensor([number % 2]))

    def losses(samples, batch_size):
        assert batch_size == 1
        for number in range(min(samples, examples)):
            yield lambda number=number: loss(number)

    return losses


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("layers", ["all", (1,), (0,)])
def test_on_bert_it_computes_its_formula(layers, residual):
    inputs, bare = batch(), tiny("bert")
    with torch.no_grad():
        h = bare(**inputs, output_hidden_states=True).hidden_states
        attached = disturbed(attach(tiny("bert"), method("ladder", reduction=2, layers=layers, residual=residual)))
        found, network = states(attached), attached.modules[0]
        mask = inputs["attention_mask"][:, None, None, :].bool()
        z = h[0] @ network.first.weight.T + network.first.bias
        for number in (0, 1) if layers == "all" else layers:
            side = network.rungs[str(number)]
            opened = 1 / (1 + torch.exp(-side.gate / 0.1))
            z = opened * z + (1 - opened) * (h[number + 1] @ side.down.weight.T + side.down.bias)
            z = side.block(z, mask)
        expected = z @ network.up.weight.T + network.up.bias + (h[-1] if residual else 0)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_undivided_with_all_gates_open_it_computes_what_the_backbone_does(architecture, padding_side):
    """So masks, positions, norms and every detail of a layer are those of the backbone."""
    inputs, bare = batch(padding_side=padding_side), tiny(architecture)
    attached = attach(tiny(architecture), method("ladder", reduction=1, layers="all"))
    network = attached.modules[0]
    with torch.no_grad():
        for linear in (network.first, network.up):
            linear.weight.copy_(torch.eye(48))
            linear.bias.zero_()
        for side in network.rungs.values():
            side.gate.fill_(10.0)
        assert torch.allclose(states(attached, inputs), bare(**inputs).last_hidden_state, atol=1e-5)
        network.up.bias.fill_(1.0)
        assert not torch.allclose(states(attached, inputs), bare(**inputs).last_hidden_state, atol=0.5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_with_the_backbone_s_last_states_added_nothing_is_changed_at_first(architecture):
    with torch.no_grad():
        bare = tiny(architecture)(**batch()).last_hidden_state
        attached = attach(tiny(architecture), method("ladder", residual=True))
        assert torch.equal(states(attached), bare)
        assert not torch.allclose(states(disturbed(attached)), bare, atol=1e-2)


def test_gates_are_half_open_at_first():
    side = attach(tiny("bert"), "ladder").parts[0].side_layer(1)
    side.block.forward = lambda z, *_, **__: z
    z, h = torch.ones(1, 2, 6), torch.zeros(1, 2, 48)
    with torch.no_grad():
        side.down.bias.fill_(3.0)
        assert torch.equal(side(z, h, (), {}), torch.full_like(z, 2.0))


def test_layers_passed_by_have_neither_weights_nor_gates():
    names = [each.name for each in attach(deep(5), method("ladder", layers="1 of 2")).tensors()]
    assert {name.split(".")[1] for name in names if name.startswith("rungs")} == {"0", "2", "4"}
    assert sum(name.endswith("gate") for name in names) == 3


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_no_state_of_the_backbone_has_a_graph(architecture, training):
    model = tiny(architecture).train(training)
    model.enable_input_require_grads()
    attached = attach(model, method("ladder", **HALF))
    with_graph = []
    for path, module in model.named_modules():
        if path:
            module.register_forward_hook(lambda _, __, o, path=path: with_graph.append(path) if graph(o) else None)
    output = states(attached)
    assert output.requires_grad
    behind = {
        "bert": {"encoder.layer.1", "pooler.dense", "pooler.activation", "pooler"},
        "llama": {"norm"},
        "gpt2": {"ln_f"},
        "t5": {"encoder.final_layer_norm", "encoder.dropout"},
    }
    assert set(with_graph) == behind[architecture]
    output.sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())


def graph(output):
    first = output[0] if isinstance(output, tuple) else output
    return isinstance(first, torch.Tensor) and first.grad_fn is not None


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_depth():
    sizes = []
    for depth in (2, 4, 9):
        attached = attach(deep(depth), method("ladder", layers="last 2", reduction=4))
        weights = {p.untyped_storage().data_ptr() for p in attached.model.parameters()}
        with kept_for_backward() as kept:
            states(attached).sum()
        assert not weights & kept.keys()
        sizes.append(sum(kept.values()))
    assert len(set(sizes)) == 1
    with attach(deep(9), "bitfit") as attached, kept_for_backward() as kept:
        states(attached).sum()
    assert sum(kept.values()) > 4 * sizes[0]


def test_of_the_backbone_only_the_states_that_are_read_are_kept():
    attached = attach(deep(4), method("ladder", layers=(1, 3), reduction=4))
    seen = []
    for layer in attached.model.encoder.layer:
        for module in layer.modules():
            module.register_forward_hook(lambda _, __, o: seen.append(o if isinstance(o, torch.Tensor) else o[0]))
    with kept_for_backward() as kept:
        states(attached).sum()
    of_backbone = {each.untyped_storage().data_ptr() for each in seen if each.grad_fn is None} & kept.keys()
    assert len(of_backbone) == 2


def test_its_layers_recompute_their_activations_where_the_backbone_s_would():
    attached = attach(deep(3), method("ladder", reduction=2, layers="all"))
    attached.model.train()
    sizes = []
    for _ in range(2):
        with kept_for_backward() as kept:
            states(attached).sum()
        sizes.append(sum(kept.values()))
        attached.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    assert sizes[1] < 0.7 * sizes[0]


def test_in_training_the_backbone_drops_nothing_out_and_the_side_network_does():
    model = tiny("bert")
    attached = attach(model, method("ladder", **HALF))
    taps = []
    model.encoder.layer[0].register_forward_hook(lambda _, __, output: taps.append(output))
    evaluated = states(attached)
    model.train()
    assert not torch.allclose(states(attached), states(attached))
    assert all(torch.equal(tap, taps[0]) for tap in taps)
    assert all(module.training for module in model.modules())
    model.eval()
    assert torch.equal(states(attached), evaluated)


def test_a_pass_that_fails_leaves_modes_and_gradients_as_they_were():
    model = tiny("bert").train()
    attached = attach(model, "ladder")
    handle = model.encoder.layer[1].intermediate.dense.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        states(attached)
    assert torch.is_grad_enabled()
    assert all(module.training for module in model.modules())
    handle.remove()
    assert states(attached).requires_grad
    with torch.no_grad():
        assert not states(attached).requires_grad
        assert not torch.is_grad_enabled()


def test_set_up_selects_by_the_squared_gradients_of_single_examples():
    bare = tiny("bert").requires_grad_(True)
    weights = {name: each for name, each in bare.named_parameters() if each.ndim == 2 and "encoder" in name}
    fisher = dict.fromkeys(weights, 0.0)

    class Bare:
        model = bare

    for loss in losses_of(Bare)(4, 1):
        for name, gradient in zip(weights, torch.autograd.grad(loss(), weights.values()), strict=True):
            fisher[name] = fisher[name] + gradient.square()
    model = tiny("bert")
    attached = attach(model, method("ladder", **HALF))
    before = {each.name: each.tensor.clone() for each in attached.tensors()}
    attached.set_up(losses_of(attached))
    into = [f"encoder.layer.{n}.{name}output.dense.weight" for n in (0, 1) for name in ("attention.", "")]
    kept = sum(fisher[name].double().sum(1) for name in into).topk(24).indices.sort().values
    own, layer = attached.parts[0].side_layer(1).block, model.encoder.layer[1]
    wide = fisher["encoder.layer.1.intermediate.dense.weight"].sum(1).topk(48).indices.sort().values
    assert torch.equal(own.intermediate.dense.weight, layer.intermediate.dense.weight[wide][:, kept])
    assert torch.equal(own.attention.output.LayerNorm.weight, layer.attention.output.LayerNorm.weight[kept])
    q, k, v = (
        fisher[f"encoder.layer.1.attention.self.{name}.weight"].double().sum(1) for name in ("query", "key", "value")
    )
    rows = (q * k * v).view(4, 12).topk(6).indices.sort().values + 12 * torch.arange(4)[:, None]
    assert torch.equal(own.attention.self.query.weight, layer.attention.self.query.weight[rows.flatten()][:, kept])
    changed = {each.name for each in attached.tensors() if not torch.equal(each.tensor, before[each.name])}
    assert changed
    assert all(".block." in name for name in changed)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_set_up_leaves_no_trace_on_the_backbone_and_what_it_chose_is_saved(architecture, tmp_path):
    model = tiny(architecture).train()
    attached = attach(model, method("ladder", samples=3))
    values = {name: each.clone() for name, each in model.state_dict().items()}
    attached.set_up(losses_of(attached))
    assert all(torch.equal(each, values[name]) for name, each in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in attached.parameters())
    model.eval()
    disturbed(attached).save(tmp_path)
    with torch.no_grad():
        assert torch.equal(states(attach_saved(tiny(architecture), tmp_path)), states(attached))


def test_samples_bound_the_examples_and_magnitude_needs_none():
    asked = []
    attached = attach(tiny("bert"), method("ladder", samples=3))
    attached.set_up(lambda samples, size: asked.append((samples, size)) or iter(()))
    plain = attach(tiny("bert"), method("ladder", score="magnitude"))
    plain.set_up(lambda *_: pytest.fail("no data is needed"))
    assert asked == [(3, 1)]
    pairs = [
        (one.tensor, other.tensor)
        for one, other in zip(attached.tensors(), plain.tensors(), strict=True)
        if "block" in one.name
    ]
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_goes_together_with_it(name):
    model = tiny("bert")
    with pytest.raises(CannotAttach, match=r"'ladder' cannot go together with '.*': it runs the backbone without grad"):
        attach(model, [name, "ladder"])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not hasattr(model, "_autopeft_carries")


def test_a_space_never_mixes_it():
    predictor = Predictor(load_skeleton(CONFIGS["bert"]()), load_cards(), TextClassification.sized(2), 8)
    space = load_space("default").only(("ladder", "lora", "adapter", "mixture")).fitted(predictor.refusal)
    assert "ladder" in space.methods
    assert space.pairs == {frozenset(("lora", "adapter"))}


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("albert", "layers of AlbertModel run several times each, and would be followed once"),
        ("deberta-v2", "layers of DebertaV2Model read tensors beside their states that are as wide"),
        ("bloom", "BloomModel mixes the rows of q, k and v"),
    ],
)
def test_a_backbone_that_it_cannot_follow_is_refused_with_the_reason(architecture, reason):
    with pytest.raises(CannotAttach, match=reason):
        attach(new(architecture), "ladder")


def test_a_backbone_without_a_configuration_is_refused():
    sites = {"layer": "stack.*", "q": "stack.*.alpha", "v": "stack.*.gamma"}
    with pytest.raises(CannotAttach, match="called with token ids, Stranger raised TypeError"):
        attach(Stranger(), "ladder", sites)


@pytest.mark.parametrize("architecture", ["mpnet", "modernbert", "umt5", "qwen3", "gemma3", "phi3", "opt", "opt-350m"])
def test_it_goes_on_many_backbones(architecture):
    model = new(architecture)
    with attach(model, method("ladder", reduction=4)) as attached:
        states(attached).pow(2).sum().backward()
        assert all(each.tensor.grad is not None for each in attached.tensors())


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"reduction": 0}, "reduction of ladder must be above 0"),
        ({"samples": 0}, "samples of ladder must be above 0"),
        ({"score": "fischer"}, "Did you mean 'fisher'"),
    ],
)
def test_wrong_settings_are_refused(settings, answer):
    with pytest.raises(AutopeftError, match=answer):
        method("ladder", **settings)


@pytest.mark.parametrize("reduction", [5, 9, 16])
def test_a_reduction_that_does_not_divide_every_width_is_refused(reduction):
    with pytest.raises(CannotAttach, match=f"reduction {reduction}"):
        attach(tiny("llama"), method("ladder", reduction=reduction))


def test_a_language_model_speaks_through_it_with_a_cache_of_its_own():
    torch.manual_seed(0)
    model: GPT2LMHeadModel = AutoModelForCausalLM.from_config(CONFIGS["gpt2"]()).eval()
    ids = batch(rows=1)["input_ids"]
    bare = model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False)
    with disturbed(attach(model, method("ladder", reduction=2))):
        spoken = model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False)
        assert torch.equal(model.generate(ids, max_new_tokens=4, do_sample=False), spoken)
    assert not torch.equal(spoken, bare)


def test_a_cache_that_was_filled_without_it_is_refused():
    model = tiny("llama")
    cache = model(**batch(rows=1), use_cache=True).past_key_values
    with attach(model, "ladder"), pytest.raises(AutopeftError, match="has not read the tokens in this cache"):
        model(input_ids=torch.tensor([[7]]), past_key_values=cache)


def test_on_a_bf16_model_it_is_in_fp32_and_gives_bf16():
    attached = attach(tiny("llama").to(torch.bfloat16), method("ladder", **HALF))
    assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
    output = states(attached)
    assert output.dtype == torch.bfloat16
    output.float().pow(2).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attached.parameters())
