"""What every method of the default space must keep on backbones that read images, or why it is refused there."""

from itertools import product

import pytest
import torch
import transformers as t

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import quietly
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.space import load_space
from tests.backbone.architectures import IMAGES, inputs, new
from tests.methods.test_contract import IDENTITY_AT_STEP_0, WRITTEN_INTO_THE_MODEL

SPACE = load_space("default")
PROMPTS = {"prompt_tuning", "p_tuning"}
NAMES = sorted({*SPACE.methods, *SPACE.hybrids} - PROMPTS)
BACKBONES = ("vit", "dinov2")
NO_PREFIX = "prefix tuning adds keys and values through transformers' attention interface"
REFUSED = {
    ("swin", "ladder"): "layers of SwinModel hold buffers, which have no narrow counterpart",
    ("swinv2", "ladder"): "layers of Swinv2Model hold buffers, which have no narrow counterpart",
    ("dinov3", "ladder"): "a narrow layer of DINOv3ViTModel does not run beside its own",
    **{(each, name): NO_PREFIX for each in ("swinv2", "data2vec") for name in ("prefix_tuning", "unipelt")},
}
OF_EVERY_KIND = ("lora", "full", "bitfit", "norm_tuning", "said", "fishmask", "prefix_tuning", "unipelt", "ladder")

on_images = pytest.mark.parametrize("architecture", BACKBONES)
with_everything = pytest.mark.parametrize(
    ("architecture", "name"),
    [
        pytest.param(of, name, marks=() if (place + 2 * at) % 4 == 0 else pytest.mark.grid)
        for (at, of), (place, name) in product(enumerate(BACKBONES), enumerate(NAMES))
    ],
)
"""Every other method on one of the two; `make grids` tries all on both."""


def model_for(name, architecture):
    """S4 needs four groups of layers."""
    return new(architecture, layers=6 if name == "s4" else None)


def states(attached, architecture):
    return attached.model(**inputs(architecture, 3))[0]


def trained(attached, architecture, steps=2):
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        given = states(attached, architecture)
        target = torch.randn(given.shape, generator=torch.Generator().manual_seed(5))
        ((given - target) ** 2).mean().backward()
        optimizer.step()
    return attached


def values(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@with_everything
def test_it_begins_as_promised_learns_and_comes_off_bit_for_bit(name, architecture):
    model = model_for(name, architecture)
    before, flags = values(model), [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        bare = model(**inputs(architecture, 3))[0]
        attached = attach(model, method(name))
        assert torch.allclose(states(attached, architecture), bare, atol=1e-5) == (name in IDENTITY_AT_STEP_0)
    declared = {id(tensor) for tensor in attached.parameters()}
    others = {id(p): p.detach().clone() for p in model.parameters() if id(p) not in declared}
    trained(attached, architecture)
    changed = sum(int((p != others[id(p)]).sum()) for p in model.parameters() if id(p) in others)
    assert changed <= (attached.count if name in WRITTEN_INTO_THE_MODEL else 0)
    assert all(each.tensor.grad is not None for each in attached.tensors())
    with torch.no_grad():
        assert not torch.allclose(states(attached, architecture), bare, atol=1e-4)
    attached.detach()
    after = values(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    with torch.no_grad():
        assert torch.equal(model(**inputs(architecture, 3))[0], bare)


@with_everything
def test_saved_and_loaded_again_gives_equal_states(name, architecture, tmp_path):
    attached = trained(attach(model_for(name, architecture), method(name)), architecture)
    with torch.no_grad():
        expected = states(attached, architecture)
        attached.save(tmp_path)
        again = attach_saved(model_for(name, architecture), tmp_path)
        assert torch.equal(states(again, architecture), expected)


@with_everything
def test_one_image_alone_has_the_states_that_it_has_among_others(name, architecture):
    attached = trained(attach(model_for(name, architecture), method(name)), architecture)
    images = inputs(architecture, 3)["pixel_values"]
    with torch.no_grad():
        together = attached.model(pixel_values=images)[0]
        alone = [attached.model(pixel_values=image[None])[0] for image in images]
    assert torch.allclose(torch.cat(alone), together, atol=1e-5)


@with_everything
def test_gradients_are_the_same_with_gradient_checkpointing(name, architecture):
    plain, checkpointed = (attach(model_for(name, architecture), method(name)) for _ in range(2))
    checkpointed.modules.load_state_dict(plain.modules.state_dict())
    with torch.no_grad():
        for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
            one.add_(0.05 * torch.randn(one.shape, generator=torch.Generator().manual_seed(3)))
            other.copy_(one)
    checkpointed.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for each in (plain, checkpointed):
        each.model.train()
        torch.manual_seed(0)
        (states(each, architecture) ** 2).mean().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-6)


@pytest.mark.parametrize("architecture", IMAGES)
@pytest.mark.parametrize("name", OF_EVERY_KIND)
def test_on_every_image_backbone_a_method_trains_and_comes_off_or_says_why_not(name, architecture):
    model = new(architecture)
    before = values(model)
    if (architecture, name) in REFUSED:
        with pytest.raises(CannotAttach, match=REFUSED[architecture, name]):
            attach(model, method(name))
    else:
        attached = trained(attach(model, method(name)), architecture)
        assert all(torch.isfinite(tensor).all() for tensor in attached.parameters())
        attached.detach()
    assert all(torch.equal(before[key], tensor) for key, tensor in values(model).items())


@pytest.mark.parametrize("architecture", IMAGES)
@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_prompts_of_token_embeddings_are_refused_with_what_does_the_same(name, architecture):
    answer = (
        r"prompts stand before the embeddings of tokens, and \w+ reads images: prefixes \(prefix_tuning, p_tuning_v2\)"
    )
    with pytest.raises(CannotAttach, match=answer):
        attach(new(architecture), method(name))


@on_images
def test_an_image_model_with_a_head_keeps_its_head_trainable(architecture):
    with quietly():
        headed = t.AutoModelForImageClassification.from_config(IMAGES[architecture]()).eval()
    assert len(find_sites(headed).at("q")) == 2
    with attach(headed, "lora"):
        trainable = {name for name, parameter in headed.named_parameters() if parameter.requires_grad}
        assert {"classifier.weight", "classifier.bias"} <= trainable
        assert all("lora" in name or name.startswith("classifier") for name in trainable)


@on_images
@pytest.mark.parametrize("name", ["fishmask", "far", "sparse_adapter", "ladder"])
def test_a_look_at_images_before_training_leaves_the_backbone_as_it_was(name, architecture):
    model = new(architecture)
    before = values(model)
    attached = attach(model, method(name))
    looked = []

    def losses(examples, batch_size):
        for image in inputs(architecture, 4)["pixel_values"][:examples].split(batch_size):
            looked.append(len(image))
            yield lambda image=image: attached.model(pixel_values=image)[0].square().mean()

    attached.set_up(losses)
    assert sum(looked) >= 4
    trained(attached, architecture).detach()
    assert all(torch.equal(before[key], tensor) for key, tensor in values(model).items())


def test_a_prefix_is_seen_by_every_window_and_by_every_patch():
    model = new("swin")
    images = inputs("swin", 1)["pixel_values"]
    with torch.no_grad():
        bare = model(pixel_values=images)[0]
        with attach(model, method("prefix_tuning", length=4, layers="last 1")) as attached:
            moved = (attached.model(pixel_values=images)[0] - bare).abs().amax(-1)
    assert (moved > 1e-6).all()
