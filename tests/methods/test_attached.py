"""Methods on a living model: heads, hybrids, saving, and coming off without trace whatever happens."""

import itertools
import re
from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForMaskedLM,
)

from autopeft.backbone.find import find_sites
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.adapter import Adapter
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.hooked import Hooked
from autopeft.methods.registry import Configured, method
from autopeft.space.cards import load_cards, load_hybrids
from tests.methods.by_hand import disturbed
from tests.sampled import sampled
from tests.tiny import CONFIGS, batch, tiny

NAMES = tuple(name for name in (*load_cards(), *load_hybrids(load_cards())) if name != "s4")
"""All but S4, which needs more layers than tiny models have."""


def whole(model):
    """Everything that a method could leave behind."""
    return {
        "values": {name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
        "flags": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "modules": {name: type(module) for name, module in model.named_modules()},
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "attributes": set(vars(model)) | set(vars(model.base_model)),
    }


def assert_same(before, after):
    assert before["values"].keys() == after["values"].keys()
    assert all(torch.equal(value, after["values"][name]) for name, value in before["values"].items())
    assert {key: value for key, value in before.items() if key != "values"} == {
        key: value for key, value in after.items() if key != "values"
    }


def headed(kind, architecture="bert"):
    torch.manual_seed(0)
    return kind.from_config(CONFIGS[architecture]()).eval()


def attached_unless(reason, model, name):
    """None for a method that is refused for such a reason."""
    try:
        return attach(model, name)
    except CannotAttach as refusal:
        if not re.match(reason, str(refusal)):
            raise
        return None


@pytest.mark.parametrize(
    ("name", "kind"), sampled(NAMES, [AutoModelForSequenceClassification, AutoModelForTokenClassification])
)
def test_a_head_stays_trainable_beside_a_method_and_is_not_counted(name, kind):
    model = headed(kind)
    before, bare = whole(model), tiny("bert")
    bare.pooler = bare.pooler if model.bert.pooler is not None else None
    with attach(model, name) as attached:
        assert {n for n, p in model.named_parameters() if p.requires_grad} >= {"classifier.weight", "classifier.bias"}
        assert attached.count == attach(bare, name).count
        attached.model(**batch()).logits.pow(2).sum().backward()
        assert model.classifier.weight.grad.any()
        frozen = [p for p in model.base_model.parameters() if id(p) not in {id(t) for t in attached.parameters()}]
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen)
    assert_same(before, whole(model))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_head_that_was_frozen_stays_frozen():
    model = headed(AutoModelForSequenceClassification)
    model.classifier.bias.requires_grad_(False)
    with attach(model, "lora"):
        assert model.classifier.weight.requires_grad
        assert not model.classifier.bias.requires_grad
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"classifier.bias"}


@pytest.mark.parametrize(("architecture", "name"), sampled(["llama", "gpt2", "bert"], NAMES, every=3))
def test_a_language_model_is_frozen_whole(architecture, name):
    model = headed(AutoModelForCausalLM, architecture) if architecture != "bert" else BertForMaskedLM(CONFIGS["bert"]())
    attached = attached_unless(r"peft refuses|peft's \w+ finds nothing|BitFit finds no biases", model, name)
    if attached is None:
        assert architecture != "bert"
        return
    trained = {id(parameter) for parameter in attached.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} <= trained
    output = model.get_output_embeddings().weight
    assert not output.requires_grad or (id(output) in trained and output is model.get_input_embeddings().weight)


PARTS = ("prompt_tuning", "adapter", "bitfit", "lora", "ia3")


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS, 3)), ids="+".join)
def test_methods_go_on_together_in_any_order_and_come_off_bit_for_bit(order):
    model = tiny("bert")
    before = whole(model)
    attached = disturbed(attach(model, list(order)))
    assert [each.name for each in attached.chosen] == list(order)
    assert attached.prepended == (10 if "prompt_tuning" in order else 0)
    states = attached.model(**batch()).last_hidden_state
    assert states.shape == (3, 10 + attached.prepended, 48)
    states.pow(2).sum().backward()
    assert all(p.grad is not None for t in attached.tensors() if "pooler" not in t.name for p in [t.tensor])
    attached.detach()
    assert_same(before, whole(model))


def test_what_methods_compute_together_does_not_depend_on_the_order_they_are_named_in():
    outputs = []
    for order in itertools.permutations(["prompt_tuning", "adapter", "lora"]):
        attached = attach(tiny("bert"), list(order))
        with torch.no_grad():
            for each in attached.tensors():
                generator = torch.Generator().manual_seed(sum(map(ord, each.name)))
                each.tensor.copy_(0.3 * torch.randn(each.tensor.shape, generator=generator))
            outputs.append(attached.model(**batch()).last_hidden_state)
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.parametrize(
    "what",
    [
        ["lora", "adapter"],
        ["ia3", "lora", "bitfit"],
        [method("adapter", placement="houlsby"), method("adapter", placement="parallel"), "prompt_tuning"],
        [method("lora", sites=["q"]), method("lora", sites=["v"])],
    ],
    ids=["lora+adapter", "ia3+lora+bitfit", "adapter+adapter+prompt_tuning", "lora+lora"],
)
def test_a_hybrid_is_saved_and_attached_again_with_equal_output(what, tmp_path):
    attached = disturbed(attach(tiny("bert"), what))
    assert attached.save(tmp_path) == tmp_path
    again = attach_saved(tiny("bert"), tmp_path)
    assert again.chosen == attached.chosen
    with torch.no_grad():
        assert torch.equal(again.model(**batch()).last_hidden_state, attached.model(**batch()).last_hidden_state)
    for one, other in zip(attached.tensors(), again.tensors(), strict=True):
        assert (one.name, one.part, one.decay) == (other.name, other.part, other.decay)
        assert torch.equal(one.tensor, other.tensor)


def test_a_method_may_be_named_given_or_listed_with_hybrids():
    counts = {
        attach(tiny("bert"), what).count
        for what in (
            ["lora_parallel", "bitfit"],
            [method("lora_parallel"), method("bitfit")],
            ("bitfit", "lora_parallel"),
        )
    }
    assert len(counts) == 1
    assert attach(tiny("bert"), "lora").count == attach(tiny("bert"), [method("lora")]).count


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ([], "give at least one method to attach."),
        (5, "5 is no method: give method\\('lora'\\), or a list of methods."),
        (["lora", None], "None is no method"),
        ("lorra", "unknown method 'lorra'. Did you mean 'lora'?"),
    ],
)
def test_what_is_no_method_is_refused_with_what_would_be_right(what, answer):
    with pytest.raises(AutopeftError, match=answer):
        attach(tiny("bert"), what)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(PARTS, ["lora", "adapter"])))
def test_a_model_that_carries_a_method_is_refused_until_it_is_detached(first, second):
    model = tiny("bert")
    before = whole(model)
    attached = attach(model, first)
    answer = f"BertModel carries {first} already: detach that first, or attach several methods together as a list."
    with pytest.raises(CannotAttach, match=answer):
        attach(model, second)
    with torch.no_grad():
        attached.model(**batch())
    attached.detach()
    attach(model, second).detach()
    assert_same(before, whole(model))


def test_a_backbone_and_the_model_around_it_count_as_one():
    model = headed(AutoModelForSequenceClassification)
    with attach(model, "adapter"), pytest.raises(CannotAttach, match="BertModel carries adapter already"):
        attach(model.bert, "lora")
    with attach(model.bert, "adapter"), pytest.raises(CannotAttach, match="carries adapter already"):
        attach(model, "lora")


def test_detaching_twice_is_detaching_once():
    model = tiny("bert")
    attached = attach(model, "bitfit")
    attached.detach()
    model.embeddings.LayerNorm.bias.data.fill_(7.0)
    model.pooler.requires_grad_(False)
    before = whole(model)
    attached.detach()
    with attach(model, "lora"):
        attached.detach()
        assert any("lora" in name for name, _ in model.named_modules())
    assert_same(before, whole(model))


def test_after_detaching_the_model_is_the_bare_one_and_other_requests_are_refused(tmp_path):
    model = tiny("bert")
    attached = attach(model, "prompt_tuning")
    assert attached.is_attached
    assert attached.model is not model
    attached.detach()
    assert not attached.is_attached
    assert attached.model is model
    assert (attached.count, attached.prepended) == (0, 0)
    for request in (attached.merge, lambda: attached.save(tmp_path), lambda: attached.load(tmp_path)):
        with pytest.raises(AutopeftError, match="prompt_tuning is detached already"):
            request()


def test_leaving_the_context_detaches_also_when_an_exception_leaves_it():
    model = tiny("bert")
    before = whole(model)
    with pytest.raises(ZeroDivisionError), attach(model, "lora_parallel"):
        _ = 1 / 0
    assert_same(before, whole(model))


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["attention", "ffn"])
def test_an_exception_in_the_middle_of_attaching_leaves_the_model_as_it_was(name, trouble, monkeypatch):
    """The second of two methods fails after it has hooked some of its places."""
    model = headed(AutoModelForSequenceClassification)
    before, hook, hooked = whole(model), Adapter._hook, []

    def failing(self, attached, place, *rest):
        if len(hooked) == {"attention": 1, "ffn": 3}[name]:
            raise trouble("out of something")
        hooked.append(place)
        hook(self, attached, place, *rest)

    monkeypatch.setattr(Adapter, "_hook", failing)
    with pytest.raises(trouble):
        attach(model, ["lora", "bitfit", method("adapter", placement="houlsby")])
    assert hooked
    assert_same(before, whole(model))
    monkeypatch.undo()
    attach(model, "lora_parallel").detach()
    assert_same(before, whole(model))


@pytest.mark.parametrize("missing", ["ffn", "v", "ffn.down", "attention"])
def test_a_site_that_is_missing_for_one_part_leaves_the_model_as_it_was(missing):
    model = tiny("bert")
    before, sites = whole(model), find_sites(model)
    lacking = replace(sites, places={name: places for name, places in sites.places.items() if name != missing})
    parts = [method("adapter", placement="houlsby"), "lora", "ia3", "prompt_tuning"]
    with pytest.raises(CannotAttach, match=f"BertModel has no site '{missing}'; it has "):
        attach(model, parts, lacking)
    assert_same(before, whole(model))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "method.json").unlink(),
        lambda folder: (folder / "method.json").write_text("{"),
        lambda folder: (folder / "method.json").write_text('{"parts": [{"name": "adapter"}]}'),
        lambda folder: (folder / "method.safetensors").unlink(),
        lambda folder: (folder / "method.safetensors").write_bytes(b"no weights"),
        lambda folder: attach(tiny("bert"), method("adapter", bottleneck=8)).parts[0].save(folder),
        lambda folder: attach(tiny("bert"), method("adapter", layers=[0])).parts[0].save(folder),
    ],
    ids=["gone", "no json", "half", "no weights", "damaged", "other shape", "other names"],
)
def test_a_folder_that_is_damaged_is_refused_in_one_sentence_and_the_model_as_it_was(spoil, tmp_path):
    attach(tiny("bert"), "adapter").save(tmp_path)
    spoil(tmp_path)
    model = tiny("bert")
    before = whole(model)
    with pytest.raises(AutopeftError) as caught:
        attach_saved(model, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_same(before, whole(model))


@pytest.mark.parametrize("name", NAMES)
def test_on_a_bf16_model_every_method_trains_and_comes_off_bit_for_bit(name):
    model = tiny("bert").to(torch.bfloat16)
    before = whole(model)
    attached = attached_unless("peft refuses .* not implemented for 'BFloat16'", model, name)
    if attached is None:
        return
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        loss = attached.model(**batch()).last_hidden_state.float().pow(2).mean()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    attached.detach()
    assert_same(before, whole(model))


def test_tensors_say_which_part_they_belong_to_and_come_once():
    attached = attach(tiny("bert"), ["bitfit", "lora"])
    tensors = list(attached.tensors())
    assert len({id(each.tensor) for each in tensors}) == len(tensors)
    assert {each.part for each in tensors if each.name.endswith(".bias")} == {0}
    assert {each.part for each in tensors if "lora_" in each.name} == {1}
    assert attached.count == sum(each.tensor.numel() for each in tensors)
    assert attached.extra_loss(torch.zeros(1, 2), lambda: torch.zeros(1, 2), torch.dist) is None


def test_a_saved_method_attaches_where_its_card_is_unknown(tmp_path):
    own = Configured("mine", "autopeft.methods.adapter.Adapter", {}, {"bottleneck": 4, "placement": "parallel"})
    attach(tiny("bert"), own).save(tmp_path)
    assert attach_saved(tiny("bert"), tmp_path).chosen == (own,)


def test_a_part_that_fails_to_come_off_keeps_no_other_on_the_model_and_no_mark(monkeypatch):
    model = tiny("bert")
    before = whole(model)
    attached = attach(model, ["lora", method("adapter", layers=[0]), method("adapter", layers=[1])])
    detach, errors = Hooked.detach, iter([RuntimeError("the first"), RuntimeError("the second")])

    def failing(self):
        detach(self)
        raise next(errors)

    monkeypatch.setattr(Hooked, "detach", failing)
    with pytest.raises(RuntimeError, match="the first"):
        attached.detach()
    monkeypatch.undo()
    assert not attached.is_attached
    assert_same(before, whole(model))
    attach(model, "lora").detach()
    assert_same(before, whole(model))
