"""Shallow models of backbones whose layers stand in several lists."""

from itertools import groupby

import pytest

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.costs.depth import Shallow
from tests.backbone.architectures import IMAGES


@pytest.mark.parametrize(
    ("name", "depths", "kept", "left"),
    [("swin", [2, 9], (0, 1, 2, 3), [2, 2]), ("swin", [5, 5], (0, 1, 2, 5, 6), [3, 2]), ("dinov2", None, (0, 1), [2])],
)
def test_a_shallow_model_of_stages_has_fewer_layers_in_each_and_its_sites_are_where_they_are(
    name: str, depths: list[int] | None, kept: tuple[int, ...], left: list[int]
) -> None:
    config = IMAGES[name]()
    if depths:
        config.depths = depths
    else:
        config.num_hidden_layers = 9
    skeleton = load_skeleton(config)
    shallow = Shallow(skeleton).skeleton(kept)
    assert shallow.sites == find_sites(shallow.model)
    assert [len(list(own)) for _, own in groupby(shallow.sites.layers, lambda each: each.rpartition(".")[0])] == left
    assert skeleton.sites == find_sites(skeleton.model)
