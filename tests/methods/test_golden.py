"""Our methods compute what AdapterHub's `adapters` does with the same weights; `golden/make.py` asked it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertConfig, BertModel

from autopeft.methods.attached import Attached, attach
from autopeft.methods.registry import method

GOLDEN = Path(__file__).parent / "golden"
PREFIX = {"length": 5, "hidden": 6}
METHODS = {
    "houlsby": method("adapter", placement="houlsby", bottleneck=8),
    "pfeiffer": method("adapter", placement="pfeiffer", bottleneck=8, activation="relu"),
    "parallel": method("adapter", placement="parallel", bottleneck=8, activation="relu", scale=2.0),
    "scaled_parallel": method("adapter", placement="scaled_parallel", bottleneck=8, activation="relu"),
    "adamix": method("adamix", bottleneck=8, experts=2),
    "compacter": method("compacter", bottleneck=8, factor=4, rank=2, activation="gelu"),
    "compacter++": method("compacter", placement="compacter++", bottleneck=8, factor=2, activation="gelu"),
    "prefix_tuning": method("prefix_tuning", **PREFIX),
    "prefix_tuning_flat": method("prefix_tuning", length=5),
    "lora": method("lora", rank=4, alpha=6, sites=["q", "v"]),
    "mam": method("mam", prefix_tuning=PREFIX, adapter={"bottleneck": 8, "scale": 4.0}),
    "unipelt": method("unipelt", **PREFIX, rank=4, bottleneck=8),
}
RENAMED = (
    (r"shared_parameters\.phm_rule", "rule"),
    (r"adapter_down\.0|adapter_down", "down"),
    (r"adapter_up", "up"),
    (r"scaling$", "scale"),
    (r"W_(left|right)$", r"\1"),
    (r"\.b$", ".bias"),
    (r"encoder\.layer\.(\d)\.attention\.output\.adapters", r"\1_attention"),
    (r"encoder\.layer\.(\d)\.output\.adapters", r"\1_ffn"),
)
"""AdapterHub's name of a tensor -> ours, piece by piece, for adapters and Compacter."""
SPECIAL = {
    "adamix": ((r"(\d)_ffn\.(down|up)\.weight", r"\1.\2"), (r"(\d)_ffn\.(down|up)\.bias", r"\1.\2_bias")),
    "lora": ((r"loras\.(lora_\w)", r"\1.weight"), (r"^encoder", "base_model.model.encoder")),
    "unipelt": (
        (r"_ffn\.gate\.", ".gate_adapter."),
        (r"_ffn\.", ".adapter."),
        (r"encoder\.layer\.(\d)\.attention\.self\.prefix_tuning\.prefix_gates", r"\1.gate_prefix"),
        (r"encoder\.layer\.(\d)\.attention\.self\.(q|v)\w+\.loras\.gate", r"\1.gate_\2"),
        (r"encoder\.layer\.(\d)\.attention\.self\.(q|v)\w+\.loras\.lora_A", r"\1.\2.a.weight"),
        (r"encoder\.layer\.(\d)\.attention\.self\.(q|v)\w+\.loras\.lora_B", r"\1.\2.b.weight"),
    ),
}
"""What is renamed besides, by method."""
POOL = "prefix_tunings.self_prefix."
LAYERS, WIDTH = 2, 32


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def bert() -> BertModel:
    with safe_open(GOLDEN / "bert.safetensors", "pt") as file:
        config = BertConfig(**json.loads(file.metadata()["facts"])["config"])
    model = BertModel(config, add_pooling_layer=False).eval()
    values = golden("bert")
    model.load_state_dict({name: values[name] for name in model.state_dict()})
    return model


def batch() -> dict[str, Tensor]:
    values = golden("bert")
    return {name: values[name] for name in ("input_ids", "attention_mask")}


def ours(name: str, theirs: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """A method's tensors by our names."""
    for path, tensor in theirs.items():
        if POOL in path:
            where = "prefixes." if name == "unipelt" else ""
            yield from ((where + own, part) for own, part in prefix(path.split(POOL)[1], tensor))
            continue
        for pattern, replacement in (*RENAMED, *SPECIAL.get(name, ())):
            path = re.sub(pattern, replacement, path)
        yield path, tensor


def prefix(path: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """AdapterHub keeps the prefixes of all layers in one tensor: (length, layer, key or value, width)."""
    if path == "control_trans":
        for number, rows in enumerate(tensor.view(-1, LAYERS, 2, WIDTH).unbind(1)):
            yield f"keys.{number}", rows[:, 0]
            yield f"values.{number}", rows[:, 1]
    elif path.startswith("control_trans.2."):
        for number, rows in enumerate(tensor.chunk(LAYERS)):
            yield f"outer.{number}.{path.split('.')[-1]}", rows
    else:
        yield {"wte.weight": "embedding"}.get(path, path.replace("control_trans.0", "inner")), tensor


def filled(name: str) -> Attached:
    """Our method with AdapterHub's weights, every one of them used."""
    theirs = {path: each for path, each in golden(name).items() if path not in ("together", "alone")}
    values = dict(ours(name, theirs))
    attached = attach(bert(), METHODS[name])
    assert {each.name for each in attached.tensors()} == values.keys()
    with torch.no_grad():
        for each in attached.tensors():
            each.tensor.copy_(values[each.name])
    return attached


def states(model: torch.nn.Module) -> Tensor:
    """Last states of the real tokens, (tokens, width)."""
    inputs = batch()
    with torch.no_grad():
        found: Tensor = model(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    return found


def expected(name: str, which: str) -> Tensor:
    return golden(name)[which][batch()["attention_mask"].bool()]


def test_there_is_a_golden_file_for_every_method_compared_and_none_besides():
    assert {path.stem for path in GOLDEN.glob("*.safetensors")} == {"bert", *METHODS}
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 1_000_000


def test_the_backbone_computes_the_same_here_as_there():
    assert torch.allclose(states(bert()), expected("bert", "together"), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_texts_get_the_states_that_adapterhub_gives_them_alone(name):
    found = states(filled(name).model)
    assert torch.allclose(found, expected(name, "alone"), atol=1e-5)
    assert (found - expected("bert", "alone")).abs().mean() > 0.05, "the method does something"


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing_but_what_adapterhub_s_gates_open_for(name):
    """UniPELT's gates are a mean over a text's tokens; AdapterHub, like the published code, counts padding as tokens,
    so that a text's states depend on how long the others in its batch are. Ours do not. Where nothing is padded, in the
    first text, both are equal.
    """
    found, theirs = states(filled(name).model), expected(name, "together")
    longest = int(batch()["attention_mask"][0].sum())
    assert torch.allclose(found[:longest], theirs[:longest], atol=1e-5)
    assert torch.allclose(found[longest:], theirs[longest:], atol=1e-5) == (name != "unipelt")
