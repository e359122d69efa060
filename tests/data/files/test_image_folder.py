"""Folders of images are listed as `datasets` lists them; nothing but names is looked at."""

import json
import os
import pickle
from pathlib import Path

import datasets
import pandas as pd
import pytest
from datasets import config

from autopeft.data.images import NoImage, open_image
from autopeft.data.reading import read_splits
from autopeft.errors import AutopeftError

CIFAR = Path("../shared/data/cifar10")


def image(path: Path, content: bytes = b"not looked at") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(data: Path) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """By split the images, relative to the data, with their labels; and notes."""
    notes: list[str] = []
    splits = read_splits(str(data), notes.append)
    root = data if data.is_dir() else data.parent
    return {
        split: [(str(Path(path).relative_to(root.resolve())), label) for path, label in zip(*held, strict=True)]
        for split, frame in splits.items()
        if (held := (frame["image"], frame["label"]))
    }, notes


def complaint(data: Path) -> str:
    with pytest.raises(AutopeftError) as caught:
        read_splits(str(data))
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith((".", "?"))
    return said


def test_folders_are_classes_and_the_folders_above_them_splits(tmp_path):
    for name in ("train/cat/1.jpg", "train/cat/2.PNG", "train/dog/1.webp", "val/cat/1.bmp", "test/dog/1.gif"):
        image(tmp_path / name)
    assert read(tmp_path) == (
        {
            "train": [("train/cat/1.jpg", "cat"), ("train/cat/2.PNG", "cat"), ("train/dog/1.webp", "dog")],
            "validation": [("val/cat/1.bmp", "cat")],
            "test": [("test/dog/1.gif", "dog")],
        },
        [],
    )


@pytest.mark.parametrize("below", ["", "data"])
def test_class_folders_without_splits_are_the_training_split(tmp_path, below):
    for name in ("cat/1.jpg", "dog/1.jpg"):
        image(tmp_path / below / name)
    assert [label for _, label in read(tmp_path)[0]["train"]] == ["cat", "dog"]


def test_a_class_may_be_named_like_a_split(tmp_path):
    for name in ("train/1.jpg", "car/1.jpg", "bus/1.jpg"):
        image(tmp_path / name)
    assert [label for _, label in read(tmp_path)[0]["train"]] == ["bus", "car", "train"]


def test_what_is_no_image_is_left_out_and_told(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "train/dog/a.heic", "train/stray.jpg", "train/dog/.DS_Store"):
        image(tmp_path / name)
    image(tmp_path / "train/.ipynb_checkpoints/1.jpg")
    image(tmp_path / "test/1.jpg")
    splits, notes = read(tmp_path)
    assert {split: [label for _, label in rows] for split, rows in splits.items()} == {"train": ["cat", "dog"]}
    assert sorted(notes) == [
        "files of 'train' that are no images, left out: 1, such as 'a.heic'",
        "images of 'test' without a class, left out: 1",
        "images of 'train' beside its class folders, left out: 1",
    ]


def test_images_without_classes_are_answered(tmp_path):
    image(tmp_path / "train/1.jpg")
    said = complaint(tmp_path)
    assert "/train' holds images without classes; put them into one folder for each class" in said


def test_classes_within_classes_are_answered(tmp_path):
    image(tmp_path / "train/animals/cat/1.jpg")
    assert "lies below 'animals', so that it is not clear" in complaint(tmp_path)


def test_two_folders_of_a_split_are_answered(tmp_path):
    for name in ("train/cat/1.jpg", "val/cat/1.jpg", "dev/cat/1.jpg"):
        image(tmp_path / name)
    assert "holds two folders of the validation split" in complaint(tmp_path)


def test_a_name_that_is_not_utf_8_is_answered(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / os.fsdecode(b"cat/\xff.jpg")).write_bytes(b"")
    assert "is not UTF-8; rename it" in complaint(tmp_path)


def test_a_folder_without_images_is_answered_as_before(tmp_path):
    (tmp_path / "cat").mkdir()
    assert "holds no train file such as train.csv; it holds cat." in complaint(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("above", [False, True])
def test_a_table_names_images_as_datasets_has_it(tmp_path, kind, above):
    rows = {
        split: [{"file_name": f"{split}/x/{number}.jpg", "label": "a", "n": 1} for number in (2, 1)]
        for split in ("train", "test")
    }
    everything = [row for held in rows.values() for row in held]
    for row in everything:
        image(tmp_path / str(row["file_name"]))
    tables = {"": everything} if above else rows
    for folder, held in tables.items():
        table = pd.DataFrame(held)
        table["file_name"] = [name.removeprefix(f"{folder}/") for name in table["file_name"]]
        path = tmp_path / folder / f"metadata.{kind}"
        match kind:
            case "csv":
                table.to_csv(path, index=False)
            case "jsonl":
                table.to_json(path, orient="records", lines=True)
            case _:
                table.to_parquet(path)
    splits = read_splits(str(tmp_path))
    assert list(splits["train"].columns) == ["image", "label", "n"]
    assert read(tmp_path)[0] == {
        split: [(f"{split}/x/2.jpg", "a"), (f"{split}/x/1.jpg", "a")] for split in ("train", "test")
    }


def test_our_list_is_that_of_datasets(tmp_path):
    pytest.importorskip("PIL")
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "test/dog/2.jpg"):
        image(tmp_path / name)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    classes = theirs["train"].features["label"].names
    assert {
        split: [
            (row["image"]["path"], classes[row["label"]])
            for row in part.cast_column("image", datasets.Image(decode=False))
        ]
        for split, part in theirs.items()
    } == {
        split: list(zip(frame["image"], frame["label"], strict=True))
        for split, frame in read_splits(str(tmp_path)).items()
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1.jpg", ""),
        ("x/../1.jpg", ""),
        ("x\\2.jpg", ""),
        ("2.jpg", "and there is no such file in"),
        ("../outside.jpg", "which lies outside of"),
        ("x/../../outside.jpg", "which lies outside of"),
        ("/etc/passwd", "which lies outside of"),
        ("link.jpg", "which lies outside of"),
        ("away/outside.jpg", "which lies outside of"),
        ("..", "which lies outside of"),
        ("x", "and there is no such file in"),
        ("pipe.jpg", "and there is no such file in"),
        ("circle.jpg", "and there is no such file in"),
        ("a\0.jpg", "and there is no such file in"),
        ("a" * 5000, "and there is no such file in"),
        ("", "has no file_name"),
    ],
)
def test_a_table_names_files_of_its_own_folder_only(tmp_path, name, reason):
    image(tmp_path / "outside.jpg")
    held = tmp_path / "held"
    image(held / "1.jpg")
    image(held / "x/2.jpg")
    (held / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (held / "away").symlink_to(tmp_path)
    (held / "circle.jpg").symlink_to(held / "circle.jpg")
    os.mkfifo(held / "pipe.jpg")
    rows = [{"file_name": "1.jpg", "label": "a"}, {"file_name": name, "label": "b"}]
    (held / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if not reason:
        assert len(read_splits(str(held))["train"]) == 2
        return
    said = complaint(held)
    assert said.startswith(f"row 2 of '{held / 'metadata.jsonl'}'")
    assert reason in said


def test_a_table_above_its_splits_leaves_no_image_between_them(tmp_path):
    for name in ("train/1.jpg", "test/1.jpg", "more/1.jpg"):
        image(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/1.jpg,a\ntest/1.jpg,a\nmore/1.jpg,b\n")
    assert complaint(tmp_path).startswith(f"row 3 of '{tmp_path}/metadata.csv' names an image that lies in no folder")


def test_folders_beside_those_of_splits_are_told(tmp_path):
    for name in ("train/cat/1.jpg", "unlabelled/1.jpg"):
        image(tmp_path / name)
    assert read(tmp_path)[1] == [f"folders of '{tmp_path.name}' that are no splits, left out: 'unlabelled'"]


def test_a_table_without_names_is_answered(tmp_path):
    (tmp_path / "metadata.csv").write_text("file,label\n1.jpg,a\n")
    assert "must have one column file_name" in complaint(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg"}\n')
    assert "holds two tables of its images" in complaint(tmp_path)


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_column_of_paths_is_relative_to_its_table(tmp_path, as_folder):
    image(tmp_path / "images/1.jpg")
    image(tmp_path.parent / "outside.jpg")
    rows = "images/1.jpg,a\nimages/2.jpg,b\n../outside.jpg,c\nhttps://host/x.jpg,d\n,e\n"
    (tmp_path / "train.csv").write_text(f"photo,label\n{rows}")
    cells = read_splits(str(tmp_path if as_folder else tmp_path / "train.csv"))["train"]["photo"].tolist()
    assert cells == [
        str((tmp_path / "images/1.jpg").resolve()),
        "images/2.jpg",
        "../outside.jpg",
        "https://host/x.jpg",
        None,
    ]
    for cell, reason in zip(cells[1:4], ("no such file", "lies outside of", "is an address; download it"), strict=True):
        assert isinstance(cell, NoImage)
        assert pickle.loads(pickle.dumps(cell)).reason == cell.reason
        assert reason in cell.reason
        pytest.importorskip("PIL")
        with pytest.raises(AutopeftError, match=reason):
            open_image(cell, "row 2 of the train split")


def test_one_name_of_something_else_does_not_hide_the_images(tmp_path):
    for name in "123":
        image(tmp_path / f"{name}.jpg")
    (tmp_path / "train.csv").write_text("photo,label\n1.jpg,a\n2.jpg,b\n3.jpg,b\nnone,a\n")
    *paths, other = read_splits(str(tmp_path))["train"]["photo"]
    assert paths == [str((tmp_path / f"{name}.jpg").resolve()) for name in "123"]
    assert isinstance(other, NoImage)
    assert str(other) == "none"


def test_texts_that_end_like_images_among_others_stay_as_they_are(tmp_path):
    image(tmp_path / "1.jpg")
    (tmp_path / "train.csv").write_text("text,label\n1.jpg,a\nlook at 1.jpg please,b\n")
    assert read_splits(str(tmp_path))["train"]["text"].tolist() == ["1.jpg", "look at 1.jpg please"]


@pytest.fixture
def pictures() -> datasets.Dataset:
    pytest.importorskip("PIL")
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": b"\xff\xd8\xff", "path": "1.jpg"}, None, {"bytes": None, "path": "../outside.jpg"}],
            "label": [0, 1, 1],
            "tags": [[0, 1], [], None],
        },
        datasets.Features(
            {
                "image": datasets.Image(decode=False),
                "label": datasets.ClassLabel(names=["cat", "dog"]),
                "tags": datasets.List(datasets.ClassLabel(names=["O", "B-PER"])),
            }
        ),
    )


def test_images_of_a_saved_data_set_are_bytes_and_lists_of_classes_their_names(monkeypatch, pictures):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict({"train": pictures}))
    frame = read_splits("user/pictures")["train"]
    assert frame["image"].tolist() == [b"\xff\xd8\xff", None, "../outside.jpg"]
    assert "lies outside of" in frame["image"][2].reason
    assert frame["label"].tolist() == ["cat", "dog", "dog"]
    assert frame["tags"].tolist() == [["O", "B-PER"], [], None]


def test_images_that_the_hub_downloaded_are_found(monkeypatch, tmp_path, pictures):
    cached = image(tmp_path / "hub/1.jpg")
    monkeypatch.setattr(config, "HF_CACHE_HOME", tmp_path)
    named = pictures.map(lambda _: {"image": {"bytes": None, "path": str(cached)}})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict({"train": named}))
    assert read_splits("user/pictures")["train"]["image"].tolist() == [str(cached.resolve())] * 3


def test_images_of_parquet_are_bytes(tmp_path):
    frame = pd.DataFrame({"image": [{"bytes": b"\xff\xd8", "path": "1.jpg"}] * 3, "photo": [b"\xff"] * 3})
    frame.to_parquet(tmp_path / "train.parquet")
    held = read_splits(str(tmp_path))["train"]
    assert held["image"].tolist() == [b"\xff\xd8"] * 3
    assert held["photo"].tolist() == [b"\xff"] * 3


def test_real_photographs_are_listed():
    if not CIFAR.exists():
        pytest.skip("no ../shared/data/cifar10 here")
    splits = read_splits(str(CIFAR))
    assert {split: len(frame) for split, frame in splits.items()} == {"train": 1200, "validation": 300, "test": 500}
    assert splits["train"]["label"].value_counts().tolist() == [120] * 10
    pytest.importorskip("PIL")
    assert open_image(splits["test"]["image"][7], "row 8").size == (32, 32)
