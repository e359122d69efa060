"""Models of others: code that they bring, files that are not what they should be, adapters, revisions."""

import io
import json
import os
import pickle
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import transformers.dynamic_module_utils as dynamic
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_backbone, load_skeleton
from autopeft.costs.api import predict
from autopeft.costs.estimate import estimate
from autopeft.errors import AutopeftError
from autopeft.methods.peft import PeftMethod
from tests.saved import saved
from tests.tiny import tiny

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1234\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """Strangers' code writes this file when it runs. Whoever is asked whether it may run finds "yes" in the input."""
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    yield tmp_path / "it ran"
    assert sys.stdin.tell() == 0
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
        del sys.modules[name]


def answer_to(name, load=load_backbone, **given):
    with pytest.raises(AutopeftError) as caught:
        load(str(name), **given)
    answer = str(caught.value)
    assert "\n" not in answer
    return answer


def amend(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def with_code(folder, marker, model_type="stranger"):
    """A folder whose configuration, model and tokenizer are code beside the weights."""
    begin = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    (folder / "configuration_x.py").write_text(
        f"{begin}from transformers import BertConfig\n\nclass XConfig(BertConfig):\n    model_type = {model_type!r}\n"
    )
    (folder / "modeling_x.py").write_text(
        f"{begin}from transformers import BertModel\nfrom .configuration_x import XConfig\n\n"
        "class XModel(BertModel):\n    config_class = XConfig\n"
    )
    mapped = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}
    amend(folder / "config.json", model_type=model_type, auto_map=mapped)
    return folder


def with_tokenizer_code(folder, marker):
    (folder / "tokenization_x.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\nfrom transformers import PreTrainedTokenizerFast\n\n"
        "class XTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    amend(
        folder / "tokenizer_config.json",
        tokenizer_class="XTokenizer",
        auto_map={"AutoTokenizer": ["tokenization_x.XTokenizer", "tokenization_x.XTokenizer"]},
    )
    return folder


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(folder, marker, load):
    with_code(folder, marker)
    assert answer_to(folder, load) == (
        f"'{folder}' cannot be loaded without program code that comes with it, which may do anything on this "
        "machine. If you have read that code and trust it, say so: `trust_remote_code: true` in the plan, or "
        "--trust-remote-code."
    )
    assert not marker.exists()


def test_code_that_comes_with_a_tokenizer_is_neither_run_nor_asked_about(folder, marker):
    """transformers has a class of its own for the tokenizer's files."""
    assert type(load_backbone(str(with_tokenizer_code(folder, marker))).tokenizer).__name__ != "XTokenizer"
    assert not marker.exists()


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
def test_code_that_comes_with_a_model_runs_where_it_is_trusted(folder, marker, load):
    loaded = load(str(with_code(folder, marker)), trust_remote_code=True)
    assert marker.exists()
    assert loaded.sites.architecture == "XModel"
    assert loaded.sites.at("q") == load_skeleton(tiny("bert").config).sites.at("q")


def test_code_that_comes_with_a_tokenizer_runs_where_it_is_trusted(folder, marker):
    backbone = load_backbone(str(with_tokenizer_code(folder, marker)), trust_remote_code=True)
    assert marker.exists()
    assert type(backbone.tokenizer).__name__ == "XTokenizer"


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
def test_a_model_that_transformers_knows_itself_loads_without_the_code_that_comes_with_it(folder, marker, load):
    assert load(str(with_code(folder, marker, "bert"))).sites.architecture == "BertModel"
    assert not marker.exists()


def test_costs_of_a_model_that_comes_with_code_are_known_where_it_is_trusted(folder, marker):
    with_code(folder, marker)

    def costs_of(name, **given):
        quick = estimate(name, space="quick", length=16, **given)
        return predict(name, "lora", length=16, batch_size=8, **given), {each.name: each.costs for each in quick}[
            "lora"
        ]

    assert "program code that comes with it" in answer_to(folder, costs_of)
    assert not marker.exists()
    one, other = costs_of(str(folder), trust_remote_code=True)
    assert one == other


def text_initialised(folder):
    """As a card of a user's space may have it."""
    config = {
        "task_type": "FEATURE_EXTRACTION",
        "prompt_tuning_init": "TEXT",
        "prompt_tuning_init_text": "w7 w8",
        "tokenizer_name_or_path": str(folder),
        "num_virtual_tokens": "$length",
    }
    model = tiny("bert")
    return attached(model, PeftMethod("PromptTuningConfig", config, {"length": 4}))


@contextmanager
def attached(model, method):
    attachment = method.attach(model, find_sites(model))
    try:
        yield attachment
    finally:
        attachment.detach()


def test_a_prompt_that_begins_with_a_text_runs_no_code_of_the_tokenizers_folder(folder, marker):
    with text_initialised(with_code(folder, marker)) as attachment:
        assert attachment.shipped()["prompt_embeddings"].shape == (4, 48)
    with_tokenizer_code(folder, marker)
    with (
        pytest.raises(AutopeftError, match=r"program code of its own, .* which is not run"),
        text_initialised(folder),
    ):
        pass
    assert not marker.exists()
    assert dynamic.TIME_OUT_REMOTE_CODE > 0


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_pickled_weights_does_not_run(folder, tmp_path, protocol):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(tmp_path / "it ran")}, protocol))
    assert answer_to(folder).startswith(f"the model in '{folder}' cannot be loaded: ")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_named_as_what_it_is(folder, file):
    (folder / file).write_text(POINTER)
    assert answer_to(folder) == (
        f"the model in '{folder}' cannot be loaded: its '{file}' is a Git LFS pointer, not the file itself: "
        "run `git lfs pull` in the folder."
    )


def test_a_pointer_that_is_not_needed_is_no_fault(folder):
    (folder / "pytorch_model.bin").write_text(POINTER)
    load_backbone(str(folder))


def in_shards(folder, names=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    of = {name: names[number % 2] for number, name in enumerate(sorted(weights))}
    for file in names:
        (folder / file).parent.mkdir(exist_ok=True)
        save_file({name: weights[name] for name in weights if of[name] == file}, folder / file, {"format": "pt"})
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": of}))
    return [folder / name for name in names]


def test_weights_in_shards_load_and_a_missing_or_unpulled_one_is_named(folder):
    fingerprint = load_backbone(str(folder)).fingerprint
    second = in_shards(folder)[1]
    assert load_backbone(str(folder)).fingerprint == fingerprint
    second.write_text(POINTER)
    assert f"its '{second.name}' is a Git LFS pointer" in answer_to(folder)
    second.unlink()
    assert answer_to(folder) == f"the weights of '{folder}' are incomplete: the file '{second.name}' is missing."


@pytest.mark.parametrize("outside", ["../secret.safetensors", "/tmp/secret.safetensors"])
def test_an_index_that_names_a_file_outside_the_folder(folder, outside):
    first, _ = in_shards(folder)
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(index.read_text().replace(first.name, outside))
    assert answer_to(folder) == f"'{index.name}' of '{folder}' names a file outside the folder: '{outside}'."


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "[" * 9999])
def test_an_index_that_is_damaged(folder, text):
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(text)
    assert f"'{WEIGHTS}.index.json' of '{folder}' is damaged" in answer_to(folder)


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
def test_an_adapter_given_as_a_model_says_which_model_it_wants(tmp_path, whole, load):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base", "r": 8}))
    expected = (
        f"'{tmp_path}' holds an adapter (adapter_config.json), trained on the model 'org/base'; give that model, or "
        "merge the adapter into it and give the result."
    )
    assert answer_to(tmp_path, load) == expected
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    assert answer_to(tmp_path, load) == expected


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"base_model_name_or_path": null}'])
def test_an_adapter_that_names_no_model(tmp_path, text):
    (tmp_path / "adapter_config.json").write_text(text)
    assert "trained on a model that it does not name" in answer_to(tmp_path)


COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def hub(tmp_path, monkeypatch, whole):
    """A cache of the hub that holds two commits of one model: `main` is the second."""
    cache = tmp_path / "cache"
    place = cache / "models--org--name"
    for commit in COMMITS:
        shutil.copytree(whole, place / "snapshots" / commit)
    weights = load_file(whole / WEIGHTS)
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, place / "snapshots" / COMMITS[0] / WEIGHTS, {"format": "pt"})
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMITS[1])
    (place / "refs" / "v1").write_text(COMMITS[0])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return place


@pytest.mark.usefixtures("hub")
def test_a_revision_of_a_hub_model_is_asked_for_with_an_at_sign():
    newest, first, commit = (load_backbone(name) for name in ("org/name", "org/name@v1", f"org/name@{COMMITS[0]}"))
    assert (newest.revision, first.revision, commit.revision) == (COMMITS[1], COMMITS[0], COMMITS[0])
    assert newest.fingerprint != first.fingerprint == commit.fingerprint
    assert (first.name, first.sites) == ("org/name@v1", load_skeleton("org/name@v1").sites)


@pytest.mark.usefixtures("hub")
def test_a_revision_that_is_not_there():
    answer = answer_to("org/name@v2")
    assert answer.startswith("'org/name@v2' is neither a local folder nor a model that can be had from the hub: ")
    assert "is no model folder" in answer_to("@v2")
    assert "there is no model folder './org@v2'" in answer_to("./org@v2")


def test_a_folder_has_no_revisions(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert f"'{folder.name}' is a folder here, and folders have no revisions" in answer_to(f"{folder.name}@v1")


def test_a_folder_may_have_an_at_sign_in_its_name_and_has_no_revision(folder, monkeypatch):
    renamed = folder.rename(folder.with_name("model@home"))
    assert load_backbone(str(renamed)).revision is None
    monkeypatch.chdir(renamed.parent)
    assert load_backbone("model@home").parameters == load_backbone(os.fspath(renamed)).parameters


@pytest.mark.parametrize("file", ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "vocab.txt"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_not_read(folder, file, make):
    (folder / file).unlink(missing_ok=True)
    make(folder / file)
    assert f"'{file}' is no file" in answer_to(folder)


def test_a_pipe_in_place_of_a_configuration_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert "'config.json' is no file" in answer_to(tmp_path / "config.json", load_skeleton)


def test_files_that_are_links_are_read_as_in_the_cache_of_the_hub(folder, tmp_path):
    kept = Path(shutil.copytree(folder, tmp_path / "blobs"))
    for file in folder.iterdir():
        file.unlink()
        file.symlink_to(kept / file.name)
    assert load_backbone(str(folder)).parameters


@pytest.mark.parametrize("name", ["~nobodyx/x", "a\0b", "a" * 1000, "a/" * 500, "\ud800", "a/\x1b[2J"])
@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
def test_names_that_can_be_none_get_a_short_answer(name, load):
    assert len(answer_to(name, load)) < 400
