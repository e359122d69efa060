"""The probe is fitted once, kept, and is exactly the head that a candidate starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.heads import POOLINGS
from autopeft.tasks.metrics import ACCURACY
from autopeft.training import precision
from autopeft.training import probe as module
from autopeft.training.evaluation import evaluate
from autopeft.training.model import States, TaskModel
from autopeft.training.probe import features_of, fit_probes, load_probe
from tests.tiny import tiny
from tests.training.data import TASK, split

CPU = torch.device("cpu")
TRAIN, VALIDATION = split(60, 0), split(40, 1)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_head_from_the_probe_is_as_good_as_the_probe(tmp_path: Path, pooling: str) -> None:
    model = tiny("bert")
    probe = fit_probes(model, 48, TASK, TRAIN, VALIDATION, [pooling], tmp_path)[pooling]
    head = TASK.new_head(48, Training(pooling=pooling))
    probe.start(head)
    found = evaluate(TaskModel(model, head), VALIDATION, CPU).statistics
    assert (found == probe.statistics).all()
    assert ACCURACY.of(found) > 0.5


def test_all_poolings_come_of_one_pass_and_are_those_of_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    one_pass = module.outputs
    monkeypatch.setattr(module, "outputs", lambda *given: passes.append(given) or one_pass(*given))
    together = fit_probes(tiny("bert"), 48, TASK, TRAIN, VALIDATION, POOLINGS, tmp_path / "all")
    assert len(passes) == 2
    for pooling in POOLINGS:
        alone = fit_probes(tiny("bert"), 48, TASK, TRAIN, VALIDATION, [pooling], tmp_path / pooling)[pooling]
        assert all(torch.equal(together[pooling].head[name], alone.head[name]) for name in alone.head)


def test_a_probe_looks_at_so_many_rows_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    ((features, targets),) = features_of(tiny("bert"), [TASK.new_head(48, Training())], TRAIN, CPU)
    assert features.shape == (20, 48)
    assert targets.shape == (20,)


def test_features_are_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    model = tiny("gpt2")
    ((features, targets),) = features_of(model, [TASK.new_head(48, Training())], TRAIN, CPU)
    assert (targets == TRAIN.targets.values).all()
    with torch.no_grad():
        alone = TaskModel(model, States())(TRAIN.batch([7]))
    assert np.allclose(features[7], alone[0], atol=1e-5)


def test_states_that_are_no_numbers_are_refused_in_a_sentence(tmp_path: Path) -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[int(TRAIN.columns["input_ids"][2][0])] = torch.nan
    with pytest.raises(AutopeftError, match=r"states of \d+ of 60 rows are infinite or no numbers \(NaN\), the first"):
        fit_probes(model, 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]
    assert not list(tmp_path.iterdir())


def test_two_that_fit_the_same_probe_at_once_both_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = module.save_file

    def overtaken(*arguments: object, **named: object) -> None:
        save(*arguments, **named)  # type: ignore[arg-type]
        monkeypatch.setattr(module, "save_file", save)
        fit_probes(tiny("bert"), 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]

    monkeypatch.setattr(module, "save_file", overtaken)
    fitted = fit_probes(tiny("bert"), 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]
    assert (fitted.statistics == load_probe(tmp_path, "mean").statistics).all()
    assert [file.name for file in tmp_path.iterdir()] == ["mean.safetensors"]


def test_a_full_disk_leaves_no_half_of_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object, file: Path, **__: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        fit_probes(tiny("bert"), 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]
    assert not list(tmp_path.iterdir())


def test_a_probe_is_fitted_once(tmp_path: Path) -> None:
    fitted = fit_probes(tiny("bert"), 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]
    again = fit_probes(None, 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]  # type: ignore[arg-type]
    kept = load_probe(tmp_path, "mean")
    assert (fitted.statistics == again.statistics).all()
    assert all(torch.equal(fitted.head[name], kept.head[name]) for name in fitted.head)
    assert [file.name for file in tmp_path.iterdir()] == ["mean.safetensors"]
