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
    ("sparse_adapter", {"placement": "houlsby", "bottleneck": 64, "sparsity": 0.4}, 1_435_545),
    ("sparse_adapter", {"placement": "houlsby", "bottleneck": 256, "sparsity": 0.75}, 2_383_872),
    ("ia3", {"sites": ["k", "v", "ffn.down"]}, 55_296),
    ("bitfit", {"biases": "all"}, 102_912),
    ("bitfit", {"biases": ["q", "ffn.up"]}, 46_080),
    ("norm_tuning", {}, 38_400),
    ("top_layers", {"count": 1}, 7_087_872),
    ("top_layers", {"count": 2}, 14_175_744),
    ("full", {}, 109_482_240),
    ("fishmask", {"keep": 0.005}, 547_411),
    ("far", {"keep": 0.1}, 5_635_572),
    ("far", {"keep": 1.0}, 56_669_184),
    ("far", {"keep": 0.1, "train_non_ffn": True}, 58_448_628),
    ("lora", {"rank": 8, "sites": ["q", "v"], "dora": True}, 313_344),
    ("adalora", {"initial_rank": 12, "rank": 8, "sites": ["q", "v"]}, 442_656),
    ("adalora", {"initial_rank": 12, "rank": 8, "sites": ALL_SIX}, 1_991_520),
    ("vera", {"rank": 256, "sites": ["q", "v"]}, 24_576),
    ("vera", {"rank": 1024, "sites": ["q", "v"]}, 43_008),
    ("krona", {"sites": ["q", "v"]}, 38_400),
    ("krona", {"sites": ["q", "v"], "factor": 32}, 38_400),
    ("krona_b", {}, 18_432),
    ("krona_b", {"residual": True}, 18_444),
    ("ladder", {"layers": [1, 2, 3, 5, 6, 7, 9, 10, 11]}, 1_819_305),
    ("ladder", {"reduction": 8, "layers": "3 of 4"}, 1_819_305),
    ("said", {"dimensions": 20_000}, 20_000),
    ("said", {"dimensions": 20_000, "groups": "none"}, 20_000),
    ("compacter", {"bottleneck": 24}, 57_088),
    ("compacter", {"bottleneck": 24, "placement": "compacter++"}, 28_576),
    ("prompt_tuning", {"length": 10}, 7_680),
    ("prompt_tuning", {"length": 20}, 15_360),
    ("prompt_tuning", {"length": 100}, 76_800),
    ("adamix", {"experts": 4, "bottleneck": 48}, 2_223_360),
    ("adamix", {"experts": 1, "bottleneck": 48, "consistency": 0.0}, 894_528),
    ("mam", {"prefix_tuning": {"length": 30, "hidden": 800}, "adapter": {"bottleneck": 384}}, 22_493_984),
    ("unipelt", {"rank": 8, "length": 10, "hidden": 512, "bottleneck": 48}, 11_083_376),
    ("unipelt", {"rank": 8, "length": 10, "hidden": 0, "bottleneck": 48}, 1_410_672),
    (
        "s4",
        {"adapter": {"bottleneck": 48}, "lora": {"rank": 8}, **{f"prefix_{n}": {"length": 10} for n in (2, 3, 4)}},
        1_048_032,
    ),
    ("s4", {}, 537_760),
    ("p_tuning", {"length": 20, "hidden": 768}, 1_787_136),
    ("p_tuning_v2", {"length": 10}, 184_320),
    ("prefix_tuning", {"length": 10}, 184_320),
    ("prefix_tuning", {"length": 20}, 368_640),
    ("prefix_tuning", {"length": 30, "hidden": 512}, 9_872_384),
    ("prefix_tuning", {"length": 20, "hidden": 768}, 14_780_160),
]
SHIPPED = [
    ("unipelt", {"rank": 8, "length": 10, "hidden": 512, "bottleneck": 48}, 1_410_672),
    ("mam", {"prefix_tuning": {"length": 30, "hidden": 800}, "adapter": {"bottleneck": 384}}, 7_644_672),
    ("mam", {"prefix_tuning": {"length": 30, "hidden": 800}, "adapter": {"bottleneck": 512}}, 10_005_504),
    ("mam", {"prefix_tuning": {"length": 16}, "adapter": {"bottleneck": 16}}, 599_232),
    ("adamix", {"experts": 4, "bottleneck": 48}, 894_528),
    ("p_tuning", {"length": 20, "hidden": 768}, 15_360),
    ("prefix_tuning", {"length": 30, "hidden": 512}, 552_960),
    ("prefix_tuning", {"length": 20, "hidden": 768}, 368_640),
]
"""What has to be stored, where that is less than what is trained."""


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


@pytest.mark.parametrize(("name", "settings", "count"), SHIPPED, ids=[f"{each[0]}-{each[2]}" for each in SHIPPED])
def test_shipped_parameters_are_those_of_the_formula(bert_base, name, settings, count):
    model, sites = bert_base
    with torch.device("meta"), attach(model, method(name, **settings), sites) as attached:
        assert attached.stored == 4 * count < 4 * attached.count


def test_overlapping_parts_of_a_hybrid_add_up_and_share_nothing(bert_base):
    model, sites = bert_base
    with torch.device("meta"), attach(model, ["lora", "ia3", "bitfit", "prompt_tuning"], sites) as attached:
        assert attached.count == 294_912 + 55_296 + 102_912 + 7_680
