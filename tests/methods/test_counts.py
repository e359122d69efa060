"""Trainable parameters on bert-base-uncased (d 768, m 3072, L 12), as published formulas give them; without a head."""

import pytest
import torch
from transformers import BertConfig, BertModel

from autopeft.backbone.find import find_sites
from autopeft.methods.attached import attach
from autopeft.methods.registry import method

ALL_SIX = ["q", "k", "v", "o", "ffn.up", "ffn.down"]
COUNTS = [
    ("lora", {"rank": 8, "sites": ["q", "v"]}, 294_912),
    ("lora", {"rank": 8, "sites": ALL_SIX}, 1_327_104),
    ("adapter", {"placement": "houlsby", "bottleneck": 64}, 2_379_264),
    ("adapter", {"placement": "houlsby", "bottleneck": 48}, 1_789_056),
    ("adapter", {"placement": "pfeiffer", "bottleneck": 48}, 894_528),
    ("adapter", {"placement": "parallel", "bottleneck": 384}, 7_091_712),
    ("adapter", {"placement": "scaled_parallel", "bottleneck": 384}, 7_091_724),
    ("ia3", {"sites": ["k", "v", "ffn.down"]}, 55_296),
    ("bitfit", {"biases": "all"}, 102_912),
    ("bitfit", {"biases": ["q", "ffn.up"]}, 46_080),
    ("prompt_tuning", {"length": 10}, 7_680),
    ("prompt_tuning", {"length": 20}, 15_360),
    ("prompt_tuning", {"length": 100}, 76_800),
]


@pytest.fixture(scope="module")
def bert_base():
    with torch.device("meta"):
        model = BertModel(BertConfig()).eval()
    return model, find_sites(model)


def test_the_backbone_is_bert_base(bert_base):
    assert sum(parameter.numel() for parameter in bert_base[0].parameters()) == 109_482_240


@pytest.mark.parametrize(("name", "settings", "count"), COUNTS, ids=[f"{each[0]}-{each[2]}" for each in COUNTS])
def test_trainable_parameters_are_those_of_the_formula(bert_base, name, settings, count):
    model, sites = bert_base
    with torch.device("meta"), attach(model, method(name, **settings), sites) as attached:
        assert attached.count == count
        assert sum(parameter.numel() for parameter in attached.parameters()) == count


def test_overlapping_parts_of_a_hybrid_add_up_and_share_nothing(bert_base):
    model, sites = bert_base
    with torch.device("meta"), attach(model, ["lora", "ia3", "bitfit", "prompt_tuning"], sites) as attached:
        assert attached.count == 294_912 + 55_296 + 102_912 + 7_680
