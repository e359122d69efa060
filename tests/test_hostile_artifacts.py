"""A folder of a trained method may be anybody's: loading it ends soon, in a model or in an AutopeftError.

`AUTOPEFT_EXAMPLES=5000` tries more folders than the quick run does.
"""

import contextlib
import copy
import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from autopeft.artifacts import export, load
from autopeft.errors import AutopeftError
from tests.saved import saved
from tests.trained import LABELS, TEXTS, artifact

EXAMPLES = int(os.environ.get("AUTOPEFT_EXAMPLES", "60"))
SECONDS = 20
MEMORY = 6 * 2**30
TRAINED = {
    "lora": ["lora"],
    "ia3": ["ia3"],
    "prompt": ["prompt_tuning"],
    "vera": ["vera"],
    "adapter": ["adapter"],
    "prefixes": ["prefix_tuning"],
    "biases": ["bitfit"],
    "entries": ["fishmask"],
    "hybrid": ["lora_parallel"],
    "mixture": ["lora", "ia3", "norm_tuning"],
}
ODD = [
    *(None, True, False, 0, -1, 5, 2**31, 2**70, 10**300, 0.5, -0.0, 1e308, "", "lora", "../..", "/dev/zero", "a/b"),
    *(".", "\x1b[2J", "\ud800", "$rank", "$sites[q]", "((a+)+)+$", "x" * 5000, "peft.LoraConfig", "os.system"),
    *(
        [],
        {},
        [[]],
        [5],
        ["q"],
        ["q", "q"],
        [None],
        {"a": 1},
        [[["q"]]],
        list(range(300)),
        "all",
        "last 0%",
        "first 99999",
    ),
]


class Hung(BaseException):
    """No `except Exception` takes it for an answer."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too long, also where only a native library could be asked, and what takes too much memory."""

    def ring(*_: object) -> None:
        raise Hung(f"no answer after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True, file=sys.__stderr__)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(folder: Path) -> str:
    """Loads and asks; anything but an answer or an AutopeftError leaves this function as it is."""
    with bounded():
        try:
            answers = load(folder).predict(TEXTS)
        except AutopeftError as error:
            return str(error)
        assert len(answers) == len(TEXTS)
        return ""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of trained methods by name, one of them merged."""
    root = tmp_path_factory.mktemp("originals")
    backbone = saved(
        root / "backbone",
    )
    for name, parts in TRAINED.items():
        artifact(root / name, backbone, parts)
    export(root / "lora", root / "merged", merge=True)
    return root


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Path:
    """A trained LoRA to be spoiled."""
    return Path(shutil.copytree(originals / "lora", tmp_path / "winner"))


def places(plain: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def changed(plain: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None], value: Any) -> Any:
    """The document with `change(container, key)` at a place; at its root, `value` in its stead."""
    if not place:
        return value
    container = plain
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    return plain


def spoil_json(data: st.DataObject, file: Path) -> None:
    plain = json.loads(file.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(plain)))
        value = copy.deepcopy(
            data.draw(st.sampled_from(ODD) | st.integers(-3, 200) | st.floats() | st.text(max_size=8))
        )
        kind = data.draw(st.sampled_from(["set", "set", "set", "delete", "rename", "repeat"]))

        def change(container: Any, key: Any, kind: str = kind, value: Any = value) -> None:
            if kind == "set":
                container[key] = value
            elif kind == "repeat" and isinstance(container, list):
                container.extend(container * 3)
            elif isinstance(container, dict):
                taken = container.pop(key)
                if kind == "rename":
                    container[str(value)] = taken
            else:
                del container[key]

        plain = changed(plain, place, change, value)
    file.write_text(json.dumps(plain))


def spoil_text(data: st.DataObject, file: Path) -> None:
    raw = file.read_bytes()
    place = data.draw(st.integers(0, len(raw)))
    file.write_bytes(raw[:place] + data.draw(st.binary(max_size=3)) + raw[place + data.draw(st.integers(0, 3)) :])


def spoil_bytes(data: st.DataObject, file: Path) -> None:
    raw = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        file.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    else:
        raw[data.draw(st.integers(0, min(400, len(raw) - 1)))] = data.draw(st.integers(0, 255))
        file.write_bytes(raw)


def spoil_tensors(data: st.DataObject, file: Path) -> None:
    tensors = load_file(file)
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name]
    match data.draw(st.sampled_from(["value", "shape", "dtype", "gone", "more", "empty"])):
        case "value" if tensor.is_floating_point():
            tensor.view(-1)[0] = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e38]))
        case "value":
            tensor.view(-1)[0] = data.draw(st.sampled_from([-1, 2**31 - 1, 10**6]))
        case "shape":
            tensors[name] = data.draw(
                st.sampled_from([tensor.reshape(1, -1), tensor.flatten(), tensor[:0], tensor[None]])
            )
        case "dtype":
            kinds = [torch.int64, torch.uint8, torch.bool, torch.float64, torch.float16, torch.complex64, torch.int32]
            tensors[name] = tensor.to(data.draw(st.sampled_from(kinds)))
        case "gone":
            del tensors[name]
        case "more":
            tensors[data.draw(st.text(max_size=5))] = torch.ones(3)
        case "empty":
            tensors.clear()
    save_file({key: each.contiguous().clone() for key, each in tensors.items()}, file)


def spoil_place(data: st.DataObject, file: Path) -> None:
    kind = data.draw(st.sampled_from(["gone", "folder", "pipe", "device", "loop", "nowhere", "swap"]))
    other = data.draw(st.sampled_from(sorted(each for each in file.parent.rglob("*") if each.is_file())))
    text = other.read_bytes()
    file.unlink()
    match kind:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "loop":
            file.symlink_to(file)
        case "nowhere":
            file.symlink_to("/nowhere")
        case "swap":
            file.write_bytes(text)


@settings(
    max_examples=EXAMPLES,
    derandomize="AUTOPEFT_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_whatever_a_folder_holds_loading_it_ends_in_a_model_or_an_autopeft_error(
    data: st.DataObject, originals: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spoiled", numbered=True) / "winner"
    shutil.copytree(originals / data.draw(st.sampled_from([*TRAINED, "merged"])), folder)
    # What a merged folder holds beside these is the backbone's, and read by transformers.
    own = {"autopeft.json", "method.json", "adapter_config.json"}
    documents = [each for each in sorted(folder.rglob("*.json")) if each.name in own]
    tensors = [each for each in sorted(folder.rglob("*.safetensors")) if each.name != "model.safetensors"]
    spoil = data.draw(
        st.sampled_from([spoil_json, spoil_json, spoil_json, spoil_text, spoil_bytes, spoil_tensors, spoil_place])
    )
    files = {spoil_json: documents, spoil_text: documents, spoil_place: documents + tensors}.get(spoil, tensors)
    spoil(data, data.draw(st.sampled_from(files)))
    try:
        outcome(folder)
    finally:
        shutil.rmtree(folder.parent)


def test_a_folder_that_is_not_spoiled_answers(originals: Path) -> None:
    assert [outcome(originals / name) for name in [*TRAINED, "merged"]] == [""] * (len(TRAINED) + 1)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("file", "place", "value", "answer"),
    [
        ("method.json", ("parts", 0, "implementation"), 5, "implementation must name a class, not 5"),
        ("method.json", ("parts", 0, "implementation"), "os.system", "'os.system' is no method of autopeft or peft"),
        ("method.json", ("parts", 0, "settings"), [], r"settings must hold values by name, not \[\]"),
        ("method.json", ("parts", 0, "config", "target_modules"), "((a+)+)+$", "target_modules must be a value"),
        ("method.json", ("parts", 0, "settings", "rank"), 10**9, r"r must be a value such as \d+, not 1000000000"),
        ("autopeft.json", ("candidate",), None, "is damaged"),
        ("autopeft.json", ("candidate", "training", "pooling"), 5, "pooling is 5"),
        ("autopeft.json", ("version",), 1, "is damaged"),
        ("autopeft.json", ("version",), 3, "a later version of autopeft wrote it"),
        ("autopeft.json", ("version",), [], "a later version"),
        ("autopeft.json", ("backbone",), 5, "backbone is 5"),
        ("autopeft.json", ("backbone",), "a\x1b[2Jb", "backbone is"),
        ("autopeft.json", ("backbone",), "/" + "x" * 900, "cannot be loaded"),
        ("autopeft.json", ("task",), [], r"a task must have a name and values, not be \[\]"),
        ("autopeft.json", ("task", "name"), "nothing", "unknown task 'nothing'"),
        ("autopeft.json", ("task", "classes"), "abc", "a list of different words is expected, not 'abc'"),
        (
            "autopeft.json",
            ("task", "classes"),
            [1, 2, 3],
            r"a list of different words is expected, not \[1, 2, 3\]",
        ),
        ("autopeft.json", ("task", "classes"), ["a"] * 3, "a list of different words is expected"),
        ("autopeft.json", ("task", "classes"), ["a", "b"], r"'weight' has shape \(3, 48\), here it is \(2, 48\)"),
        ("autopeft.json", ("task", "text"), ["a", "b", "c"], "text is"),
        ("autopeft.json", ("max_length",), "16", "max_length is '16'"),
        ("autopeft.json", ("max_length",), True, "max_length is True"),
        ("autopeft.json", ("precision",), "float8", "precision is 'float8'"),
        ("autopeft.json", ("fingerprint",), 5, "fingerprint is 5"),
        ("autopeft.json", ("revision",), [], r"revision is \[\]"),
        ("autopeft.json", ("task", "more"), 5, "nothing is known of 'more'"),
        ("autopeft.json", ("more",), 5, "is damaged: .*more"),
    ],
)
def test_values_that_are_none_of_ours_are_refused(
    file: str, place: tuple[Any, ...], value: Any, answer: str, folder: Path
) -> None:
    plain = json.loads((folder / file).read_text())
    changed(plain, place, lambda container, key: container.__setitem__(key, value), None)
    (folder / file).write_text(json.dumps(plain))
    with pytest.raises(AutopeftError, match=answer) as caught:
        load(folder)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "text", [DEEP, '{"description": ' + DEEP + "}", '{"description": ' + "9" * 5001 + "}", "5", ""]
)
@pytest.mark.parametrize("file", ["autopeft.json", "method.json"])
def test_nested_and_endless_documents_are_refused(file: str, text: str, folder: Path) -> None:
    (folder / file).write_text(text)
    assert f"{file}' is damaged" in outcome(folder)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero"), str])
@pytest.mark.parametrize("file", ["autopeft.json", "method.json", "head.safetensors", "adapter_model.safetensors"])
def test_what_is_no_file_is_not_read(file: str, make: Callable[[Path], Any], folder: Path) -> None:
    (folder / file).unlink()
    make(folder / file)
    assert file in outcome(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("file", ["head.safetensors", "adapter_model.safetensors", "method.safetensors"])
def test_weights_that_are_no_numbers_are_refused(file: str, value: float, originals: Path, tmp_path: Path) -> None:
    name = "adapter" if file == "method.safetensors" else "lora"
    folder = Path(shutil.copytree(originals / name, tmp_path / "winner"))
    tensors = load_file(folder / file)
    next(iter(tensors.values())).view(-1)[-1] = value
    save_file(tensors, folder / file)
    assert "holds values that are no finite numbers" in outcome(folder)


@pytest.mark.parametrize("file", ["head.safetensors", "adapter_model.safetensors"])
def test_enormous_weights_give_no_answer(file: str, folder: Path) -> None:
    tensors = load_file(folder / file)
    for tensor in tensors.values():
        tensor.fill_(3e38)
    save_file(tensors, folder / file)
    assert "the model gives no finite numbers for these texts" in outcome(folder)


@pytest.mark.parametrize("kind", [torch.int64, torch.float8_e4m3fn, torch.bool])
@pytest.mark.parametrize("name", ["lora", "adapter", "entries"])
@pytest.mark.parametrize("spoil", ["head", "method"])
def test_weights_of_another_type_are_refused(
    spoil: str, name: str, kind: torch.dtype, originals: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(originals / name, tmp_path / "winner"))
    own = "adapter_model.safetensors" if name == "lora" else "method.safetensors"
    file = folder / ("head.safetensors" if spoil == "head" else own)
    tensors = load_file(file)
    changed = next(each for each, tensor in tensors.items() if tensor.is_floating_point())
    save_file({**tensors, changed: tensors[changed].to(kind)}, file)
    assert f"'{changed}' holds {str(kind).removeprefix('torch.')}, not float32" in outcome(folder)


def test_a_file_that_does_not_fit_into_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("autopeft.methods.hooked.load_file", none_left)
    assert "cannot be read: it does not fit into memory" in outcome(folder)


def test_a_file_with_a_hole_of_many_gigabytes_is_refused_before_it_is_read(folder: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [10**10], "data_offsets": [0, 4 * 10**10]}}).encode()
    with (folder / "head.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(file.tell() + 4 * 10**10)
    assert "head.safetensors' " in outcome(folder)


def test_a_merged_folder_without_its_model_is_no_other_model(originals: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals / "merged", tmp_path / "winner"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "holds no merged model: model.safetensors is missing" in outcome(folder)


def test_the_labels_of_a_head_of_another_size_take_no_memory(originals: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals / "lora", tmp_path / "winner"))
    plain = json.loads((folder / "autopeft.json").read_text())
    plain["task"]["classes"] = [str(number) for number in range(300_000)]
    (folder / "autopeft.json").write_text(json.dumps(plain))
    assert "has shape (3, 48), here it is (300000, 48)" in outcome(folder)
    assert len(LABELS) == 3
