"""The table of all methods: what is said to fit does fit, and what does not go on a model is told why."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from autopeft import machine
from autopeft.cli import main
from autopeft.costs import estimate as module
from autopeft.costs.api import predict
from autopeft.costs.estimate import estimate, usual_task
from autopeft.costs.told import Estimate
from autopeft.errors import AutopeftError
from autopeft.methods.registry import method
from autopeft.sizes import show_bytes
from autopeft.space.space import load_space
from tests.processes import children_of, lives
from tests.tiny import CONFIGS

NAMES = ("bitfit", "lora", "prompt_tuning", "lora_parallel")
ASKED = {"batch_size": 2, "length": 16}


def look_only_at(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(module, "load_space", lambda name: load_space(name).only(names))


@pytest.fixture(autouse=True)
def few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    look_only_at(monkeypatch, *NAMES)
    monkeypatch.setattr(machine, "cores", lambda: 1)


def by_name(estimates: tuple[Estimate, ...]) -> dict[str, Estimate]:
    return {each.name: each for each in estimates}


def test_every_method_and_hybrid_is_predicted_at_its_defaults() -> None:
    told: list[str] = []
    found = by_name(estimate(CONFIGS["bert"](), **ASKED, on_event=lambda event: told.append(event.what)))
    assert told == ["estimating what 4 methods cost", *(f"estimated {done} of 4 methods" for done in (1, 2, 3, 4))]
    assert tuple(found) == NAMES
    for name in NAMES:
        assert found[name].costs == predict(CONFIGS["bert"](), name, **ASKED)
        assert not found[name].largest


def test_with_rows_to_train_on_the_seconds_of_a_training_are_told_with_their_error() -> None:
    few, many = (by_name(estimate(CONFIGS["bert"](), **ASKED, rows=rows)) for rows in (40, 4000))
    for name in NAMES:
        one, other = few[name].seconds, many[name].seconds
        assert one is not None
        assert other is not None
        assert other.seconds > 3 * one.seconds
        assert 0 < one.error < 4 * one.seconds


def test_what_does_not_go_on_the_model_is_there_with_the_reason() -> None:
    found = by_name(estimate(CONFIGS["llama"](), **ASKED))
    assert found["lora"].costs == predict(CONFIGS["llama"](), "lora", task="text-generation", **ASKED)
    assert found["bitfit"].costs is None
    assert "no biases" in found["bitfit"].refused
    assert found["lora"].costs is not None


def test_the_largest_settings_fit_and_larger_ones_do_not() -> None:
    config = CONFIGS["bert"]()
    usual = predict(config, "lora", **ASKED).memory
    limit = usual + usual // 20
    found = by_name(estimate(config, memory=limit, **ASKED))
    rows, rank = found["lora"].largest["batch_size"], found["lora"].largest["rank"]
    assert rows >= 2
    for most, wanted in ((rows, {"batch_size": rows}), (rows + 1, {"batch_size": rows + 1})):
        assert (predict(config, "lora", **{**ASKED, **wanted}).memory <= limit) == (most == rows)
    assert rank > 8
    assert predict(config, method("lora", rank=rank), **ASKED).memory <= limit
    assert rank == 48 or predict(config, method("lora", rank=rank + 1), **ASKED).memory > limit
    assert set(found["lora_parallel"].largest) == {"batch_size", "lora.rank", "adapter.bottleneck"}
    assert set(found["bitfit"].largest) == {"batch_size"}


def test_a_limit_below_the_defaults_is_met_by_less_and_one_below_the_weights_by_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_only_at(monkeypatch, "lora")
    config = CONFIGS["gpt2"]()
    task: dict[str, Any] = {"task": "text-classification"}
    usual = predict(config, "lora", **ASKED).memory
    alone = predict(config, "lora", batch_size=1, length=16).memory
    assert by_name(estimate(config, memory=usual - 1, **ASKED, **task))["lora"].largest["batch_size"] == 1
    assert by_name(estimate(config, memory=alone - 1, **ASKED, **task))["lora"].largest["batch_size"] == 0
    assert set(by_name(estimate(config, memory="1KiB", **ASKED, **task))["lora"].largest.values()) == {0}


def test_a_prompt_is_no_longer_than_the_positions_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    look_only_at(monkeypatch, "prompt_tuning")
    found = by_name(estimate(CONFIGS["bert"](), memory="1GiB", batch_size=1, length=50))
    assert found["prompt_tuning"].largest["length"] == 14


def test_weights_in_half_precision_take_half_the_memory() -> None:
    config = CONFIGS["llama"]()
    full, half = (predict(config, "lora", dtype=dtype, **ASKED) for dtype in ("float32", "bfloat16"))
    assert half.memory_by_part["weights"] < 0.7 * full.memory_by_part["weights"]
    assert half.trainable == full.trainable
    with pytest.raises(AutopeftError, match="unknown dtype 'bf16'"):
        estimate(config, dtype="bf16")


def test_the_command_prints_one_line_for_each_from_a_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_only_at(monkeypatch, "lora", "bitfit")
    CONFIGS["llama"]().save_pretrained(tmp_path)
    asked = ["--model", str(tmp_path / "config.json"), "--batch-size", "2", "--length", "16", "--memory", "1GiB"]
    done = CliRunner().invoke(main, ["estimate", *asked])
    assert done.exit_code == 0, done.output
    about, assumed = done.stdout.splitlines()[:2]
    place = tmp_path / "config.json"
    assert about == f"text-generation with {place}: 2 x 16 tokens in a step, weights in float32, within 1.00 GiB"
    assert assumed == "Assumed, as nothing else was asked for: --task text-generation, --dtype float32."
    lora = next(line for line in done.output.splitlines() if line.startswith("lora "))
    costs = predict(CONFIGS["llama"](), "lora", task="text-generation", **ASKED)
    assert show_bytes(costs.memory) in lora
    assert "1024" in lora
    assert "rank 24" in lora  # all that v has of features: heads share keys and values
    assert "Not on this model:" in done.output
    assert "\nbitfit: " in done.output


def test_everything_is_there_as_json_and_a_quantised_dtype_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_only_at(monkeypatch, "lora", "bitfit")
    CONFIGS["llama"]().save_pretrained(tmp_path)
    asked = ["--model", str(tmp_path / "config.json"), "--batch-size", "2", "--length", "16", "--dtype", "nf4"]
    done = CliRunner().invoke(main, ["estimate", *asked, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["about"]["task"], said["about"]["dtype"], said["assumed"]) == ("text-generation", "nf4", ["task"])
    found = {each["name"]: each for each in said["methods"]}
    assert tuple(found) == ("bitfit", "lora")
    costs = predict(CONFIGS["llama"](), "lora", task="text-generation", dtype="nf4", **ASKED)
    assert found["lora"]["costs"]["memory"] == costs.memory
    assert found["lora"]["costs"]["memory_by_part"] == costs.memory_by_part
    assert found["bitfit"]["costs"] is None
    assert "no biases" in found["bitfit"]["refused"]
    file = tmp_path / "costs.json"
    done = CliRunner().invoke(main, ["estimate", *asked, "--task", "text-classification", "--json", str(file)])
    assert done.stdout == ""
    assert json.loads(file.read_text())["about"]["task"] == "text-classification"


@pytest.mark.parametrize(
    ("architecture", "named", "task"),
    [
        ("llama", None, "text-generation"),
        ("gpt2", ["GPT2LMHeadModel"], "text-generation"),
        ("llama", ["LlamaModel"], "text-generation"),
        ("llama", ["LlamaForSequenceClassification"], "text-classification"),
        ("bert", None, "text-classification"),
        ("bert", ["BertForMaskedLM"], "text-classification"),
        ("t5", None, "text-classification"),
    ],
)
def test_a_configuration_tells_what_its_model_is_usually_fine_tuned_for(
    architecture: str, named: list[str] | None, task: str
) -> None:
    config = CONFIGS[architecture]()
    config.architectures = named
    assert usual_task(config) == task


def test_a_model_that_is_not_there_is_answered() -> None:
    done = CliRunner().invoke(main, ["estimate", "--model", "/nowhere/model"])
    assert done.exit_code == 2
    assert "there is no model folder" in done.output


@pytest.mark.long
def test_processes_that_share_the_work_find_the_same() -> None:
    config = CONFIGS["bert"]()
    found = estimate(config, processes=2, **ASKED)
    assert found == estimate(config, **ASKED)
    assert tuple(each.name for each in found) == NAMES


@pytest.mark.long
def test_a_value_that_a_method_refuses_is_not_among_those_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compacter's bottleneck is a multiple of its factor."""
    look_only_at(monkeypatch, "compacter")
    config = CONFIGS["bert"]()
    usual = predict(config, "compacter", **ASKED).memory
    for limit in (usual + usual // 50, usual - usual // 100):
        largest = by_name(estimate(config, memory=limit, **ASKED))["compacter"].largest["bottleneck"]
        assert largest % 4 == 0
        assert predict(config, method("compacter", bottleneck=largest), **ASKED).memory <= limit


@pytest.mark.long
def test_no_process_outlives_who_was_killed(tmp_path: Path) -> None:
    CONFIGS["bert"]().save_pretrained(tmp_path)
    program = "import sys; from autopeft.costs.estimate import estimate; estimate(sys.argv[1], processes=2)"
    asking = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    until, children = time.monotonic() + 120, set[int]()
    while len(children) < 3 and time.monotonic() < until:  # One keeps the names of what is to be cleared.
        time.sleep(0.2)
        children = children_of(asking.pid)
    asking.kill()
    asking.wait()
    assert len(children) == 3
    while any(map(lives, children)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not [*filter(lives, children)]
