"""The check of a machine's GPU, in the smaller form that any device can do."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

CHECK = Path(__file__).parent.parent / "benchmarks" / "gpu_check.py"


@pytest.mark.long
def test_methods_are_predicted_trained_measured_and_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("gpu_check", CHECK)
    assert spec is not None
    assert spec.loader is not None
    check: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    monkeypatch.setattr(check, "METHODS", ("lora", "prefix_tuning"))
    assert check.main(["--tiny"]), capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    for name in check.METHODS:
        (line,) = (each for each in lines if each.split()[:1] == [name])
        assert " good " in line
    assert "a saved winner gives logits when it is loaded" in lines
