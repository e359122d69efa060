"""Twenty architectures, each from a folder as a hub has it: what a text is answered depends on the text alone.

Not on the batch, nor on the side that the tokenizer likes to pad on, nor on whether the method was merged, saved or
loaded again.
"""

import pytest
import torch

from autopeft.artifacts import Description, TrainedModel, export, load, save_artifact
from autopeft.backbone.load import load_backbone
from autopeft.methods.attached import attach
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from tests.backbone.architectures import new
from tests.saved import new_tokenizer, saved

NAMES = (
    *("bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "deberta-v2", "albert", "electra", "gpt2"),
    *("gpt_neox", "gptj", "falcon", "falcon-alibi", "phi", "phi3", "gemma3", "qwen3", "mistral", "opt", "bloom", "t5"),
)
MERGEABLE = {"lora": True, "adapter": False, "prefix_tuning": False, "prompt_tuning": False}
WITHOUT_INTERFACE = ("deberta-v2", "gptj", "falcon", "falcon-alibi", "bloom")
"""Prefix tuning goes through transformers' interface of attention, which these do not use."""
PAIRS = [
    (name, method)
    for name in NAMES
    for method in MERGEABLE
    if not (method == "prefix_tuning" and name in WITHOUT_INTERFACE)
]
TEXTS = ["w7 w8 w9", "w20", "w30 w31 w32 w33 w34 w35 w36 w37 w38 w39 w40 w41", "w50 w51", "w5 [PAD] w6"]
LABELS = ("bad", "fair", "good")


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)


def folder_of(architecture, place):
    model = new(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    folder = saved(place, model=model, tokenizer=False)
    tokenizer = new_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("architecture", "method"), PAIRS)
def test_alone_equals_batched_merged_equals_unmerged_and_reloaded_equals_saved(architecture, method, tmp_path):
    folder = folder_of(architecture, tmp_path / "model")
    living = load_backbone(str(folder))
    task = TextClassification(("text",), LABELS)
    head = task.new_head(living.sites.width, Training())
    description = Description(str(folder), task, 16)
    candidate = Candidate(method, (Part(method),), Training(pooling="mean"))
    with attach(living.model, method, living.sites) as attached:
        with torch.no_grad():
            for tensor in (*attached.parameters(), *head.parameters()):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))
        trained = TrainedModel(living, attached, head, description)
        logits, alone = trained.logits(TEXTS), trained.logits(TEXTS, batch_size=1)
        save_artifact(tmp_path / "winner", attached, head, description, candidate)
        assert MERGEABLE[method] == all(part.mergeable for part in attached.parts)
    assert torch.allclose(alone, logits, atol=1e-4)
    assert torch.equal(load(tmp_path / "winner").logits(TEXTS), logits)
    if MERGEABLE[method]:
        merged = load(export(tmp_path / "winner", tmp_path / "merged", merge=True))
        assert torch.allclose(merged.logits(TEXTS), logits, atol=1e-4)
