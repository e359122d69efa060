"""Parameters that nothing depends on: found where they are, and trained by no method."""

import pytest
import torch
import transformers as t

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.backbone.architectures import EVERY, inputs, new

MASK_TOKEN, POST = {"embeddings.mask_token"}, {"post_layernorm.weight", "post_layernorm.bias"}


@pytest.mark.parametrize(
    ("name", "whole", "of_states"),
    [
        ("dinov2", MASK_TOKEN, MASK_TOKEN),
        ("dinov3", MASK_TOKEN, MASK_TOKEN),
        ("clip", set(), POST),
        ("bert", set(), {"pooler.dense.weight", "pooler.dense.bias"}),
        ("vit", set(), set()),
        ("gpt2", set(), set()),
        ("t5", set(), set()),
    ],
)
def test_parameters_that_nothing_depends_on_are_idle_and_more_of_them_where_states_alone_are_read(
    name, whole, of_states
):
    model = new(name)
    assert find_sites(model).idle == whole
    assert find_sites(model, states_only=True).idle == of_states
    with torch.device("meta"):
        assert load_skeleton(EVERY[name]()).sites.idle == {each for each in of_states if "pooler" not in each}


def test_a_head_makes_use_of_what_states_alone_do_not_need():
    headed = t.AutoModelForImageClassification.from_config(EVERY["dinov2"]())
    assert find_sites(headed).idle == MASK_TOKEN
    assert find_sites(t.AutoModelForSequenceClassification.from_config(EVERY["bert"]())).idle == set()


@pytest.mark.parametrize("name", ["full", "bitfit", "norm_tuning", "fishmask", "said"])
@pytest.mark.parametrize("architecture", ["dinov2", "clip"])
def test_idle_parameters_are_not_trained_and_no_norm_among_them_is_a_site(name, architecture):
    skeleton = load_skeleton(EVERY[architecture]())
    assert not any("post" in place.path for place in skeleton.sites.at("norm"))
    model = new(architecture)
    idle = [model.get_parameter(each) for each in skeleton.sites.idle]
    before = [each.clone() for each in idle]
    with attach(model, method(name), skeleton.sites) as attached:
        assert not {*map(id, attached.parameters())} & {*map(id, idle)}
        with torch.no_grad():
            for tensor in attached.parameters():
                tensor.add_(1)
            attached.model(**inputs(architecture))
        assert all(torch.equal(*each) for each in zip(before, idle, strict=True))
