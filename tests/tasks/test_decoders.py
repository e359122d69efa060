"""Every method of the default space on four decoders: it trains two steps, and is the same once saved and loaded.

The contract asks this of a Llama; `make grids` asks it of all.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t

from autopeft.artifacts import TrainedModel, load, save_artifact
from autopeft.backbone.load import load_backbone, quietly
from autopeft.errors import CannotAttach
from autopeft.tasks.text_generation import TextGeneration
from autopeft.tasks.understanding import encoded, understand
from autopeft.training.loop import set_up, train
from tests.costs.test_language_models import CONFIGS
from tests.tasks.examples import made_for
from tests.tasks.test_contract import CPU, DEFAULT, MOST, ROWS, Ready, begun, candidate, outputs

QUICK = ("lora", "prompt_tuning")
METHODS = sorted({*DEFAULT.methods, *DEFAULT.hybrids})
LAYERS = 4


@pytest.fixture(scope="module", params=CONFIGS)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = made_for(TextGeneration, tmp_path_factory.mktemp(request.param))
    plain = CONFIGS[request.param]().to_dict() | {"num_hidden_layers": LAYERS, "layer_types": None}
    with quietly(), torch.random.fork_rng():
        torch.manual_seed(0)
        config = type(CONFIGS[request.param]()).from_dict(plain)
        t.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    data, backbone = understand(str(folder / "data")), load_backbone(str(folder / "model"), causal=True)
    return Ready(folder, data, backbone, encoded(data, backbone, MOST, folder / "encoded"))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.grid) for name in METHODS]
)
def test_a_method_trains_on_it_and_is_the_same_once_loaded_or_is_refused(
    decoder: Ready, name: str, tmp_path: Path
) -> None:
    wanted, data = candidate(name), decoder.split("train")
    try:
        model, attached = begun(decoder, wanted)
    except CannotAttach as error:
        pytest.skip(f"refused: {error}")
    with attached:
        set_up(model, data, seed=0, device=CPU)
        metric = decoder.task.metric("auto")
        curve = [*train(model, data, decoder.split("validation"), wanted, metric, seed=0, device=CPU)]
        assert np.isfinite([curve[-1].score, curve[-1].error, curve[-1].loss]).all()
        attached.settle()
        rows = decoder.data.splits["validation"].inputs[:4]
        living = outputs(TrainedModel(decoder.backbone, attached, model.head, decoder.description), rows, ROWS)
        save_artifact(tmp_path / "trained", attached, model.head, decoder.description, wanted)
    again = outputs(load(tmp_path / "trained"), rows, ROWS)
    assert all(torch.equal(*each) for each in zip(living, again, strict=True))
