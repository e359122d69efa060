"""The probe is fitted once, kept, and is exactly the head that a candidate starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autopeft.errors import AutopeftError
from autopeft.training import precision
from autopeft.training import probe as module
from autopeft.training.loop import evaluate
from autopeft.training.model import Bare, Classifier
from autopeft.training.probe import fit_probe, load_probe, pooled
from tests.tiny import tiny
from tests.training.data import TASK, split

TRAIN, VALIDATION = split(60, 0), split(40, 1)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_head_from_the_probe_is_as_good_as_the_probe(tmp_path: Path, pooling: str) -> None:
    model = tiny("bert")
    probe = fit_probe(model, TASK, TRAIN, VALIDATION, pooling, tmp_path)
    head = TASK.new_head(48)
    probe.start(head)
    accuracy, _ = evaluate(Classifier(Bare(model), head, pooling), TASK, VALIDATION, torch.device("cpu"))
    assert accuracy == probe.accuracy > 0.5


def test_features_are_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    model = tiny("gpt2")
    features = pooled(model, TRAIN, "mean")
    with torch.no_grad():
        alone = Classifier(Bare(model), torch.nn.Identity(), "mean")(TRAIN.batch([7]))
    assert np.allclose(features[7], alone[0], atol=1e-5)


def test_states_that_are_no_numbers_are_refused_in_a_sentence(tmp_path: Path) -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[int(TRAIN.ids[TRAIN.offsets[2]])] = torch.nan
    with pytest.raises(AutopeftError, match=r"states of \d+ of 60 texts are infinite or no numbers \(NaN\), the first"):
        fit_probe(model, TASK, TRAIN, VALIDATION, "mean", tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_that_fit_the_same_probe_at_once_both_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = module.save_file

    def overtaken(*arguments: object, **named: object) -> None:
        save(*arguments, **named)  # type: ignore[arg-type]
        monkeypatch.setattr(module, "save_file", save)
        fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)

    monkeypatch.setattr(module, "save_file", overtaken)
    fitted = fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)
    assert fitted.accuracy == load_probe(tmp_path, "mean").accuracy
    assert [file.name for file in tmp_path.iterdir()] == ["mean.safetensors"]


def test_a_full_disk_leaves_no_half_of_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object, file: Path, **__: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_probe_is_fitted_once(tmp_path: Path) -> None:
    fitted = fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)
    again = fit_probe(None, TASK, TRAIN, VALIDATION, "mean", tmp_path)  # type: ignore[arg-type]
    kept = load_probe(tmp_path, "mean")
    assert fitted.accuracy == again.accuracy == kept.accuracy
    assert all(torch.equal(fitted.head[name], kept.head[name]) for name in fitted.head)
    assert [file.name for file in tmp_path.iterdir()] == ["mean.safetensors"]
