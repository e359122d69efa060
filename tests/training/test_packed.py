"""Several examples in one row are learned as if each had its own: losses, gradients, and what every method makes of it.

The decoders differ where it matters: positions that are learned (GPT-2) and turned, and layers that look back a few
tokens only (Gemma 3), fewer than an example has.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import transformers as t

from autopeft.backbone.load import load_skeleton
from autopeft.backbone.output import output_of
from autopeft.costs.measure import measure
from autopeft.costs.predict import Predictor
from autopeft.data.packing import packed
from autopeft.data.store import LABELS, Column, Dataset
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts, method
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.space import load_space
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.language_head import LanguageModelHead
from autopeft.tasks.metrics import LOSS
from autopeft.tasks.text_generation import TextGeneration
from autopeft.training.frozen import FrozenStates
from autopeft.training.loop import train
from autopeft.training.model import TaskModel
from tests.costs.test_language_models import CONFIGS
from tests.methods.by_hand import disturbed
from tests.sampled import sampled

CPU = torch.device("cpu")
CARDS = load_cards()
LENGTH = 48
VOCABULARY = 400


@pytest.fixture(autouse=True)
def _in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.training.precision.has_bf16", lambda _: False)


def examples(count: int = 12, seed: int = 0) -> Dataset:
    """Of 3 to 40 tokens, of which the second half is learned."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(3, VOCABULARY, size) for size in rng.integers(3, 41, count)]
    labels = [np.where(np.arange(len(each)) < len(each) // 2, NO_LABEL, each) for each in ids]
    columns = {"input_ids": Column.ragged(ids, np.int32), LABELS: Column.ragged(labels, np.int32, NO_LABEL)}
    return Dataset(columns, LENGTH)


@cache
def decoder(name: str, layers: int = 2) -> t.PreTrainedModel:
    """Frozen, with its output embedding."""
    plain = CONFIGS[name]().to_dict() | {"num_hidden_layers": layers, "layer_types": None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = t.AutoModelForCausalLM.from_config(type(CONFIGS[name]()).from_dict(plain)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # As far as a new model is from a trained one, attention hardly tells tokens apart.
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False)


@contextmanager
def attached(whole: t.PreTrainedModel, what: str, **settings: object) -> Iterator[TaskModel]:
    with attach(whole.base_model, method(what, **settings)) as methods:
        disturbed(methods)
        yield TaskModel(whole.base_model, LanguageModelHead(), methods, output=output_of("", whole))


def losses(model: TaskModel, data: Dataset, at_once: int) -> tuple[float, int, list[torch.Tensor]]:
    """The sum of losses, how many tokens that is, and gradients."""
    total, count = torch.zeros(()), 0
    for start in range(0, len(data), at_once):
        batch = data.batch(np.arange(start, min(start + at_once, len(data))))
        total = total + model.head.loss(model(batch), batch)
        count += int(model.head.count(batch))
    total.backward()
    gradients = [each.grad.clone() for each in model.methods.parameters()]
    model.zero_grad()
    return total.item(), count, gradients


@torch.no_grad()
def lost(model: TaskModel, data: Dataset) -> float:
    """The sum of losses, row by row."""
    batches = [data.batch([row]) for row in range(len(data))]
    return sum(model.head.evaluated(model(batch), batch)[0] for batch in batches)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_those_of_examples_alone(name: str, attention: str) -> None:
    model = copy.deepcopy(decoder(name))
    model.set_attn_implementation(attention)
    alone = examples()
    rows = packed(alone, LENGTH)
    assert len(rows) <= len(alone) - 3
    with attached(model, "lora") as trained:
        one, tokens, gradients = losses(trained, alone, 1)
        other, same, theirs = losses(trained, rows, 3)
    assert (other / same, same) == (pytest.approx(one / tokens, abs=1e-5), tokens)
    for mine, their in zip(gradients, theirs, strict=True):
        assert torch.allclose(mine, their, atol=1e-5 * float(mine.abs().max()) + 1e-4)


@pytest.mark.parametrize("name", [*CARDS, *load_hybrids(CARDS)])
def test_every_method_keeps_examples_apart_or_says_that_it_does_not(name: str) -> None:
    alone = examples(6)
    rows = packed(alone, LENGTH)
    with ExitStack() as stack:
        try:
            model = stack.enter_context(attached(decoder("gpt2", layers=6 if name == "s4" else 2), name))
        except CannotAttach as refusal:
            pytest.skip(f"refused: {refusal}")
        if {need for part in model.methods.chosen for need in part.method.lacks} & {"causal", "packable"}:
            return
        assert lost(model, rows) == pytest.approx(lost(model, alone), rel=1e-5)


def test_prompts_are_refused_with_the_reason() -> None:
    predictor = Predictor(
        load_skeleton(CONFIGS["llama"](), causal=True), CARDS, TextGeneration("text"), 48, packed=True
    )
    space = load_space("everything").only(("lora", "prompt_tuning", "prefix_tuning")).fitted(predictor.refusal)
    assert space.methods == ("lora",)
    assert "have no place for its prefix" in space.refused["prefix_tuning"]
    assert (
        "is not packable, as this task needs it: its prompt stands before a row once" in space.refused["prompt_tuning"]
    )


@pytest.mark.parametrize(
    ("name", "what", "checkpointing"), sampled(CONFIGS, [("lora", False), ("lora", True), ("full", False)], every=4)
)
def test_a_step_of_packed_rows_is_predicted_within_three_percent(name: str, what: str, checkpointing: bool) -> None:
    training = Training(batch_size=3, gradient_checkpointing=checkpointing)
    rows = packed(examples(24), LENGTH)
    assert (rows.lengths > LENGTH - 8).sum() >= 3
    chosen = Candidate(what, (Part(what),), training)
    skeleton = load_skeleton(CONFIGS[name](), causal=True)
    predicted = Predictor(skeleton, CARDS, TextGeneration("text"), LENGTH, CPU, packed=True).predict(chosen)
    with attached(decoder(name), what) as model:
        everything = replace(rows, columns={**rows.columns, LABELS: rows.columns["input_ids"]})
        measured = measure(model, everything, chosen, CPU)
    assert predicted.memory == pytest.approx(measured.memory, rel=0.03)
    assert predicted.flops == pytest.approx(measured.flops, rel=0.01)


def test_states_of_frozen_layers_are_kept_for_packed_rows() -> None:
    training = Training(batch_size=2, epochs=3)
    chosen = Candidate("lora", (Part("lora", {"layers": "last 50%"}, 1e-3),), training)
    whole, validation, rows = decoder("gemma3", layers=4), examples(4, seed=1), packed(examples(), LENGTH)
    found = []
    for served in (False, True):
        torch.manual_seed(3)
        with attach(whole.base_model, configured_parts(chosen.parts, CARDS)) as methods:
            model = TaskModel(whole.base_model, LanguageModelHead(), methods, output=output_of("", whole))
            store = FrozenStates(rows, validation)
            with store.serving(model, training, CPU) if served else nullcontext() as kept:
                splits = (store.train, store.validation) if served else (rows, validation)
                found.append([*train(model, *splits, chosen, LOSS, seed=1, device=CPU)])
    assert kept is not None
    assert (kept.why_not, kept.bytes > 0) == ("", True)
    assert [each.loss for each in found[0]] == pytest.approx([each.loss for each in found[1]], abs=1e-5)
    assert [each.score for each in found[0]] == pytest.approx([each.score for each in found[1]], abs=1e-5)
