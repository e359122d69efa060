"""Text-to-text generation: what is read of rows, the model's own loss and texts, costs, and a search that learns."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import autopeft
from autopeft.backbone.load import load_backbone
from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.text2text_generation import DECODER_IDS, Text2TextGeneration
from autopeft.tasks.understanding import understand
from autopeft.training import precision
from autopeft.training.generation import writer
from autopeft.training.loss import mean_loss
from autopeft.training.model import TaskModel
from autopeft.trial import Status
from tests.crossed import CONFIGS, NAMES, config_of, folder_of, whole
from tests.tasks.examples import model_that_goes_on

CPU = torch.device("cpu")
ROWS = [{"document": f"{name} likes", "summary": f"{NAMES[name]} w{n}"} for n in range(12) for name in NAMES]


def rows_in(folder: Path, rows: Any = ROWS) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(file)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        [{"article": each["document"], "highlights": each["summary"], "id": 7} for each in ROWS],
        [{"translation": {"en": each["document"], "de": each["summary"]}} for each in ROWS],
    ],
)
def test_summaries_and_translations_are_known_by_their_columns(rows: Any, tmp_path: Path) -> None:
    data = understand(rows_in(tmp_path, rows))
    assert isinstance(data.task, Text2TextGeneration)
    read = {each for split in data.splits.values() for each in split.inputs}
    assert read == {(each["document"], each["summary"]) for each in ROWS}
    if "translation" in rows[0]:
        assert any("translated: 'en' into 'de'" in line for line in data.described())


def test_other_names_are_taken_where_the_task_is_said(tmp_path: Path) -> None:
    rows = [{"text": each["document"], "target": each["summary"]} for each in ROWS]
    for name in ("text2text-generation", "SEQ_2_SEQ_LM"):
        data = understand(rows_in(tmp_path, rows), task=name)
        assert data.columns == {"target": ("target",), "text": ("text",)}


def test_an_empty_reference_is_answered_with_its_row() -> None:
    rows = [*ROWS[:3], {"document": "Anna likes", "summary": " "}]
    columns = {"target": ("summary",), "text": ("document",)}
    with pytest.raises(AutopeftError, match=r"column 'summary' has no text in 1 of 4 rows .* the first is row 4"):
        Text2TextGeneration().rows(pd.DataFrame(rows), columns, "train")


def test_a_model_of_another_kind_is_refused_both_ways(tmp_path: Path) -> None:
    crossed = load_backbone(str(folder_of("bart", tmp_path / "bart")), causal=True)
    data = rows_in(tmp_path, [{"prompt": each["document"], "completion": each["summary"]} for each in ROWS])
    with pytest.raises(AutopeftError, match=r"has an encoder beside its decoder.*--task text2text-generation"):
        understand(data).task.on(crossed)
    model_that_goes_on(tmp_path / "llama")
    causal = load_backbone(str(tmp_path / "llama"), causal=True)
    with pytest.raises(AutopeftError, match=r"is no encoder with a decoder.*--task text-generation"):
        Text2TextGeneration().on(causal)


@pytest.fixture(params=CONFIGS)
def ready(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any, Any]:
    backbone = load_backbone(str(folder_of(request.param, tmp_path / "model")), causal=True)
    data = understand(rows_in(tmp_path))
    task = data.task.on(backbone)
    return backbone, task, task.encode(data.splits["validation"], backbone, 32)


def test_a_decoder_reads_what_came_before_each_token_that_is_learned(ready: tuple[Any, Any, Any]) -> None:
    backbone, task, encoded = ready
    read = task.inputs(encoded.batch([0, 1]))
    labels, given = read["labels"], read[DECODER_IDS]
    assert (labels[:, 0] == -100).all()
    assert (given[:, 0] == backbone.model.config.decoder_start_token_id).all()
    learned = labels[:, 1:] != -100
    assert torch.equal(given[:, 1:][learned], labels[:, 1:][learned])
    assert labels[0][labels[0] != -100][-1] == backbone.tokenizer.eos_token_id
    assert task.parted(encoded.columns["input_ids"][0], encoded.targets[0])[1] == labels[0][labels[0] != -100].tolist()


def test_the_loss_and_the_texts_are_those_of_transformers(
    ready: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    backbone, task, encoded = ready
    backbone.whole.generation_config.forced_eos_token_id = None
    model = TaskModel(backbone.model, task.new_head(48, Training()), None, task.inputs, backbone.output).eval()
    batch = encoded.batch(np.arange(5))
    labels = batch["labels"][:, 1:].contiguous()
    own = backbone.whole(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels)
    with torch.no_grad():
        assert float(mean_loss(model, batch, CPU)) == pytest.approx(float(own.loss), rel=1e-4)
    prompts = task.prompts([("Anna likes", None), ("w1 w2 w3 w4 Ben", None)], backbone)
    written = writer(backbone, task.ends(backbone))(prompts, 8)
    for prompt, ids in zip(prompts, written, strict=True):
        made = backbone.whole.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, num_beams=1)
        theirs = made[0, 1:].tolist()
        ends = task.ends(backbone)
        assert ids == theirs[: next((at for at, each in enumerate(theirs) if each in ends), len(theirs))]


def steps() -> list[Any]:
    """Each way on one model, two of them deep; `make grids` tries all."""
    often = {("bart", "lora", True, 8), ("t5", "adapter", False, 8), ("marian", "lora", False, 2)}
    return [
        pytest.param(name, *how, layers, marks=() if (name, *how, layers) in often else pytest.mark.grid)
        for name, how, layers in product(CONFIGS, [("lora", False), ("lora", True), ("adapter", False)], [2, 8])
    ]


@pytest.mark.parametrize(("name", "method", "checkpointing", "layers"), steps())
def test_a_step_of_both_stacks_is_predicted_within_three_percent(
    name: str, method: str, checkpointing: bool, layers: int
) -> None:
    model = whole(name, layers)
    how: Any = {"task": "text2text-generation", "batch_size": 4, "length": 24, "gradient_checkpointing": checkpointing}
    predicted, measured = (
        autopeft.predict(config_of(name, layers), method, **how),
        autopeft.measure(model, method, **how),
    )
    assert predicted.memory == pytest.approx(measured.memory, rel=0.03)
    assert (predicted.trainable, predicted.stored) == (measured.trainable, measured.stored)
    assert predicted.flops == pytest.approx(measured.flops, rel=0.001)


@pytest.mark.grid
def test_of_deep_stacks_shallow_ones_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    how: Any = {"task": "text2text-generation", "batch_size": 4, "length": 24}
    shallow = autopeft.predict(config_of("bart", 12), "lora", **how)
    monkeypatch.setattr("autopeft.costs.predict.shallow_models", lambda _: None)
    deep = autopeft.predict(config_of("bart", 12), "lora", **how)
    assert shallow.memory == pytest.approx(deep.memory, rel=0.001)
    assert shallow.flops == deep.flops


def test_a_search_learns_and_its_winner_writes(tmp_path: Path) -> None:
    rows = [{"document": f"{name} likes", "summary": NAMES[name]} for _ in range(12) for name in NAMES]
    where: Any = {"workers": 0, "storage": f"sqlite:///{tmp_path}/db.db", "folder": str(tmp_path / "runs")}
    search = autopeft.search(
        model=str(folder_of("bart", tmp_path / "model")),
        data=rows_in(tmp_path, rows),
        methods=("lora",),
        metric="exact_match",
        trials=2,
        max_length=16,
        name="small",
        **where,
    )
    finished = [trial for trial in search.trials if trial.status is Status.FINISHED]
    assert len(finished) == 2
    for trial in finished:
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.predicted.memory >= 0.97 * trial.outcome.measured.memory
        losses = [rung.others["loss"] for rung in trial.curve]
        assert losses[-1] < losses[0]
    best = search.select()
    assert best.score > 0
    best.save(tmp_path / "winner")
    best.save(tmp_path / "merged", merge=True)
    winner, merged = (autopeft.load(tmp_path / name) for name in ("winner", "merged"))
    asked = ["Anna likes", {"document": "Ben likes"}]
    assert winner.generate(asked, 4) == merged.generate(asked, 4)
    assert isinstance(winner.generate("Anna likes", 4), str)
    resumed = autopeft.resume("small", trials=3, **where)
    assert len(resumed.trials) == 3
