"""The probe is fitted once, kept, and is exactly the head that a candidate starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autopeft.tasks.classifier import Bare, Classifier
from autopeft.training import precision, probe
from autopeft.training.loop import evaluate
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


def test_two_searches_that_write_a_probe_at_once_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []

    def save_while_another_does(tensors: dict[str, torch.Tensor], file: Path, metadata: dict[str, str]) -> None:
        save(tensors, file, metadata)
        written.append(file)
        if len(written) == 1:
            fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)

    save = probe.save_file
    monkeypatch.setattr(probe, "save_file", save_while_another_does)
    fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)
    assert len(set(written)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["mean.safetensors"]


def test_a_probe_is_fitted_once(tmp_path: Path) -> None:
    fitted = fit_probe(tiny("bert"), TASK, TRAIN, VALIDATION, "mean", tmp_path)
    again = fit_probe(None, TASK, TRAIN, VALIDATION, "mean", tmp_path)  # type: ignore[arg-type]
    kept = load_probe(tmp_path, "mean")
    assert fitted.accuracy == again.accuracy == kept.accuracy
    assert all(torch.equal(fitted.head[name], kept.head[name]) for name in fitted.head)
    assert [file.name for file in tmp_path.iterdir()] == ["mean.safetensors"]
