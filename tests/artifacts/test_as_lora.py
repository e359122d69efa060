"""Methods that servers do not know, given away as a LoRA: what it computes, what it scores, and what cannot be one."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

import autopeft
from autopeft.artifacts import Description, export, load, read_description, save_artifact
from autopeft.backbone.load import load_backbone
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.tasks.text_generation import TextGeneration
from autopeft.trial import Status
from tests.methods.by_hand import disturbed
from tests.tasks.examples import model_that_goes_on
from tests.user import user_folder

CHANGES = {
    "lokr": {"rank": 4, "sites": ("q",)},
    "loha": {"rank": 3},
    "vera": {"rank": 16},
    "miss": {"rank": 4},
    "krona": {"sites": ("q",)},
    "delora": {},
}
TEXTS = ("the film was good", "the book was awful")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    model_that_goes_on(folder, layers=2)
    (folder / "generation_config.json").write_text('{"eos_token_id": 3, "pad_token_id": 0}')
    return folder


def trained(model: Path, name: str, folder: Path, **settings: Any) -> Path:
    backbone = load_backbone(str(model), causal=True)
    task = TextGeneration("continuation")
    candidate = Candidate(name, (Part(name, method(name, **settings).settings),), Training())
    with disturbed(attach(backbone.model, method(name, **settings), backbone.sites)) as attached:
        description = Description(str(model), task, 32, backbone.fingerprint)
        return save_artifact(folder, attached, task.new_head(32, Training()), description, candidate)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_weights_is_held_by_a_lora_of_one_rank_that_peft_and_autopeft_load(
    name: str, model: Path, tmp_path: Path
) -> None:
    artifact = trained(model, name, tmp_path / "trained", **CHANGES[name])
    given = export(artifact, tmp_path / "given", lora=True)
    prompts = ["film good", "longest bad w1 w2"]
    own, again = load(artifact).logits(prompts), load(given).logits(prompts)
    assert torch.allclose(own, again, atol=0.02 * float(own.abs().max()))
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(given).eval()
    ids = torch.tensor([[7, 8, 9]])
    with torch.no_grad():
        expected = load(given).model.model(input_ids=ids).last_hidden_state
        states = theirs.base_model.model.model(input_ids=ids).last_hidden_state
    assert torch.allclose(states, expected, atol=1e-5)
    _, candidate = read_description(given)
    assert candidate.name == "lora"
    card = (given / "README.md").read_text(encoding="utf-8")
    assert f"trained as `{name}`, whose change of the weights this LoRA holds" in card


def test_a_lora_is_what_vllm_and_llama_cpp_read(model: Path, tmp_path: Path) -> None:
    """vLLM: `base_model.model.<module>.lora_A.weight`, one rank, no bias, no DoRA, no modules saved whole; llama.cpp's
    `convert_lora_to_gguf.py` takes the beginning off and looks for `<module>.weight` in the base model; both read the
    tokenizer and where the base model is.
    """
    given = export(trained(model, "lokr", tmp_path / "trained", rank=4), tmp_path / "given", lora=True)
    config = json.loads((given / "adapter_config.json").read_text())
    weights = AutoModelForCausalLM.from_pretrained(model).state_dict()
    assert config["peft_type"] == "LORA"
    assert config["task_type"] == "CAUSAL_LM"
    assert config["base_model_name_or_path"] == str(model)
    assert (config["bias"], config["use_dora"], config["use_rslora"], config["modules_to_save"]) == (
        "none",
        False,
        False,
        None,
    )
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    with safe_open(given / "adapter_model.safetensors", "pt") as opened:
        names = [*opened.keys()]
        for name in names:
            assert name.startswith("base_model.model.")
            assert name.endswith((".lora_A.weight", ".lora_B.weight"))
            side = name.split(".")[-2]
            base = name.removeprefix("base_model.model.").replace(f".{side}.weight", ".weight")
            out, into = weights[base].shape
            tensor = opened.get_tensor(name)
            assert tensor.dtype == torch.float32
            assert tuple(tensor.shape) == ((config["r"], into) if side == "lora_A" else (out, config["r"]))
    assert {name.split(".")[-3] for name in names} == {each.split(".")[-1] for each in config["target_modules"]}
    assert {"tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= {
        each.name for each in given.iterdir()
    }


def test_a_merged_model_is_what_vllm_and_llama_cpp_read(model: Path, tmp_path: Path) -> None:
    """`convert_hf_to_gguf.py` reads the architecture's name, tensors by transformers' names in a dtype that it knows,
    and the tokenizer; vLLM the same, and how the model generates.
    """
    given = export(trained(model, "lokr", tmp_path / "trained", rank=4), tmp_path / "given", merge=True)
    assert json.loads((given / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    weights = AutoModelForCausalLM.from_pretrained(model).state_dict()
    with safe_open(given / "model.safetensors", "pt") as opened:
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert {name: each.shape for name, each in found.items()} == {name: each.shape for name, each in weights.items()}
    assert {each.dtype for each in found.values()} == {torch.float32}
    files = {each.name for each in given.iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"} <= files


@pytest.mark.parametrize("name", ["adapter", "hira", "ia3", "lora", "norm_tuning"])
def test_what_is_no_change_that_a_lora_could_hold_says_so_and_leaves_nothing(
    name: str, model: Path, tmp_path: Path
) -> None:
    artifact = trained(model, name, tmp_path / "trained")
    with pytest.raises(AutopeftError, match=r"LoRA"):
        export(artifact, tmp_path / "given", lora=True)
    assert not (tmp_path / "given").exists()
    with pytest.raises(AutopeftError, match="give one of merge, onnx and a LoRA"):
        export(artifact, tmp_path / "given", merge=True, lora=True)


def test_a_method_that_servers_do_not_know_comes_with_tokenizer_and_generation_config(
    model: Path, tmp_path: Path
) -> None:
    given = export(trained(model, "adapter", tmp_path / "trained"), tmp_path / "given")
    files = {each.name for each in given.iterdir()}
    assert {"tokenizer.json", "generation_config.json", "README.md", "method.safetensors"} <= files


def test_the_card_says_what_the_lora_scores_beside_what_was_trained(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    place = user_folder(tmp_path / "user")
    search = autopeft.search(
        model=str(place / "model"),
        data=str(place / "reviews.csv"),
        space="everything",
        methods=("lokr",),
        trials=1,
        max_length=16,
        workers=0,
        storage=f"sqlite:///{tmp_path}/db.db",
        folder=str(tmp_path / "runs"),
    )
    (trial,) = search.trials
    assert trial.status is Status.FINISHED
    trial.save(tmp_path / "given", lora=True)
    card = (tmp_path / "given" / "README.md").read_text(encoding="utf-8")
    assert "accuracy on validation data, as a LoRA of rank " in card
    assert "as `lokr`" in card
    answers = autopeft.load(tmp_path / "given").predict(list(TEXTS))
    assert set(answers) <= {"positive", "negative"}
