import gzip
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from autopeft.data.reading import read_splits
from autopeft.errors import AutopeftError

ROWS = [{"text": "a stirring film", "label": "good"}, {"text": 'a "dull", long\nfilm', "label": "bad"}]


def complaint(data: str | Path) -> str:
    with pytest.raises(AutopeftError) as caught:
        read_splits(str(data))
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith((".", "?"))
    return said


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def held(frame: pd.DataFrame) -> list[dict[str, object]]:
    return frame.to_dict("records")


def save(path: Path, rows: list[dict[str, object]]) -> Path:
    frame = pd.DataFrame(rows)
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t", quoting=1)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
        case ".parquet":
            frame.to_parquet(path)
    return path


KINDS = ("csv", "tsv", "jsonl", "json", "parquet")


@pytest.mark.parametrize("kind", [*KINDS, "CSV"])
def test_a_file_of_each_kind_is_the_training_split(tmp_path, kind):
    file = save(tmp_path / f"reviews.{kind.lower()}", ROWS).rename(tmp_path / f"data.{kind}")
    splits = read_splits(str(file))
    assert list(splits) == ["train"]
    assert held(splits["train"]) == ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_files_is_read_by_their_names(tmp_path, kind):
    for name in ("train", "dev", "Test"):
        save(tmp_path / f"{name}.{kind}", [{**row, "file": name} for row in ROWS])
    save(tmp_path / f"other.{kind}", ROWS)
    (tmp_path / "README.md").write_text("about")
    splits = read_splits(str(tmp_path))
    assert {name: set(frame["file"]) for name, frame in splits.items()} == {
        "train": {"train"},
        "validation": {"dev"},
        "test": {"Test"},
    }


@pytest.fixture
def dataset() -> datasets.Dataset:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    return datasets.Dataset.from_dict({"text": ["a film", "a book", "a play"], "label": [1, 0, -1]}, features)


def test_a_saved_data_set_is_a_training_split_with_the_names_of_its_classes(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "saved")
    splits = read_splits(str(tmp_path / "saved"))
    assert set(splits["train"].dtypes) == {np.dtype(object)}
    assert held(splits["train"]) == [
        {"text": "a film", "label": "good"},
        {"text": "a book", "label": "bad"},
        {"text": "a play", "label": None},
    ]


def test_saved_splits_are_read_by_their_names(tmp_path, dataset):
    parts = {"train": dataset, "valid": dataset.select([0]), "test": dataset.select([1]), "unsupervised": dataset}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    splits = read_splits(str(tmp_path / "saved"))
    assert {name: len(frame) for name, frame in splits.items()} == {"train": 3, "validation": 1, "test": 1}


def test_a_data_set_of_the_hub_is_read_without_its_empty_splits(monkeypatch, dataset):
    given = datasets.DatasetDict({"train": dataset, "validation": dataset.select([])})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, *_, **__: {"user/reviews": given}[name])
    assert {name: len(frame) for name, frame in read_splits("user/reviews").items()} == {"train": 3}


def test_a_folder_that_is_no_saved_data_set_any_more_is_answered(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    assert "cannot be read as a saved data set: " in complaint(tmp_path / "saved")


def test_cells_of_a_csv_are_text_whatever_they_look_like(tmp_path):
    file = write(tmp_path / "x.csv", "text,label,n\nNA,01,1.0\n1984,,2\n")
    assert held(read_splits(str(file))["train"]) == [
        {"text": "NA", "label": "01", "n": "1.0"},
        {"text": "1984", "label": "", "n": "2"},
    ]


def test_missing_values_stay_missing_and_numbers_stay_what_they_are(tmp_path):
    rows = [
        {"text": None, "label": 1, "flag": True},
        {"label": None, "flag": None},
        {"text": "a", "label": 2, "flag": False},
    ]
    read = read_splits(str(save(tmp_path / "x.jsonl", rows)))["train"]
    assert read["label"].tolist() == [1, None, 2]
    assert [type(value) for value in read["label"]] == [int, type(None), int]
    assert read["flag"].tolist() == [True, None, False]
    assert pd.isna(read["text"].tolist()[:2]).all()


def test_numbers_of_parquet_are_python_numbers(tmp_path):
    frame = pd.DataFrame({"f": pd.Series([1, 2], dtype="float32"), "i": pd.Series([1, None], dtype="Int64")})
    frame["kind"] = pd.Series(["a", None], dtype="category")
    frame.to_parquet(tmp_path / "x.parquet")
    read = read_splits(str(tmp_path / "x.parquet"))["train"]
    assert set(read.dtypes) == {np.dtype(object)}
    assert [type(value) for value in read["f"]] == [float, float]
    assert read["i"].tolist() == [1, None]
    assert read["kind"][0] == "a"
    assert pd.isna(read["kind"][1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "\ufefftext,label\na film,good\n"),
        ("x.csv", "text;label\na film;good\n"),
        ("x.csv", "text\tlabel\na film\tgood\n"),
        ("x.csv", "\n text , label \r\na film,good\r\n\r\n,\r\n"),
        ("x.csv", '"text","label"\n"a film","good"'),
        ("x.tsv", "text\tlabel\na film\tgood\n"),
        ("x.tsv", '"text"\t"label"\n"a film"\t"good"\n'),
        ("x.json", '{"text": "a film", "label": "good"}\n\n'),
        ("x.jsonl", '[{"text": "a film", "label": "good"}]'),
    ],
)
def test_what_programs_write_is_read(tmp_path, name, content):
    splits = read_splits(str(write(tmp_path / name, content)))
    assert held(splits["train"]) == [{"text": "a film", "label": "good"}]


def test_quotes_in_a_tab_separated_file_are_part_of_its_texts(tmp_path):
    file = write(tmp_path / "x.tsv", 'text\tlabel\n"a film" he said\tgood\n"unclosed\tbad\nagain"\tbad\n')
    texts = read_splits(str(file))["train"]["text"].tolist()
    assert texts == ['"a film" he said', '"unclosed', 'again"']


def test_a_quoted_line_break_in_a_tab_separated_file_is_understood(tmp_path):
    file = write(tmp_path / "x.tsv", 'text\tlabel\n"two\nlines"\tgood\n')
    assert read_splits(str(file))["train"]["text"].tolist() == ["two\nlines"]


def test_a_text_of_any_length_is_read(tmp_path):
    file = write(tmp_path / "x.csv", f"text,label\n{'word ' * 100_000},good\n")
    assert len(read_splits(str(file))["train"]["text"][0]) == 500_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", "", "x.csv' is empty."),
        ("x.csv", "\n \n", "x.csv' is empty."),
        ("x.csv", "text,label\n", "x.csv' holds no rows, only the header text, label."),
        ("x.json", "[]", "x.json' holds no rows."),
        ("x.csv", "text,label\na, b,good\n", "line 2 of '"),
        (
            "x.csv",
            "text,label\na, b,good\n",
            "has 3 cells, but the header has 2; a text that holds ',' or a line break",
        ),
        ("x.csv", "text,label\na,good\nb\n", "line 3 of '"),
        (
            "x.csv",
            'text,label\n"a" b,good\n',
            "is no valid CSV: ',' expected after '\"'; a text that holds a quote must",
        ),
        ("x.csv", 'text,label\n"a,good\nb,bad\n', "is no valid CSV: unexpected end of data"),
        ("x.tsv", "text\tlabel\na\tb\tgood\n", "has 3 cells, but the header has 2; a text that holds '\\t' or"),
        (
            "x.csv",
            "text,label\ncafé,good\n".encode("latin-1"),
            "is not UTF-8 text: line 2 holds the byte 0xe9; save it",
        ),
        ("x.jsonl", '{"text": "café"}'.encode("latin-1"), "is not UTF-8 text: line 1 holds the byte 0xe9; save it"),
        ("x.jsonl", '{"text": "a"}\n{"text": \n', "line 2 of '"),
        (
            "x.jsonl",
            '{"text": "a"}\n{"text": \n',
            "is no valid JSON: Expecting value; a file holds a list of objects, or",
        ),
        ("x.json", '[\n{"text": "a"},\n{"text" 1}]', "line 3 of '"),
        (
            "x.json",
            '[\n{"text": "a"},\n{"text" 1}]',
            "is no valid JSON: Expecting ':' delimiter; a file holds a list of",
        ),
        (
            "x.json",
            '{\n  "text": ["a"]\n}',
            "x.json' is one object with the keys 'text', and below none of them lies a",
        ),
        ("x.jsonl", '{"text": "a"}\n"b"\n', "row 2 of '"),
        ("x.jsonl", '{"text": "a"}\n"b"\n', 'is no object such as {"text": …, "label": …}, but \'b\'.'),
        ("x.parquet", "text,label\n", "x.parquet' cannot be read as parquet: "),
        (
            "x.xlsx",
            "text",
            "x.xlsx' is no kind of file that can be read; give one of .csv, .tsv, .txt, .jsonl, .ndjson, .json, .parq",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_answered(tmp_path, name, content, said):
    assert said in complaint(write(tmp_path / name, content))


def test_a_missing_file_is_answered_with_its_nearest_neighbour(tmp_path):
    save(tmp_path / "train.csv", ROWS)
    assert complaint(tmp_path / "trian.csv") == (
        f"there is no file or folder '{tmp_path}/trian.csv'. Did you mean '{tmp_path}/train.csv'?"
    )
    assert complaint(tmp_path / "no" / "train.csv") == f"there is no file or folder '{tmp_path}/no/train.csv'."
    assert complaint("~/no such file.csv") == "there is no file or folder '~/no such file.csv'."


def test_a_missing_file_without_a_usual_ending_is_answered_with_its_nearest_neighbour(tmp_path, monkeypatch):
    save(tmp_path / "train.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    said = complaint("train.cvs")
    assert said.startswith("'train.cvs' is no file, no folder, and no data set that the hub gives: ")
    assert said.endswith(" Did you mean 'train.csv'?")
    heard: list[str] = []
    with pytest.raises(AutopeftError):
        read_splits("train.cvs", heard.append)
    assert heard == ["no file or folder 'train.cvs' is here; asking the hub. Did you mean 'train.csv'?"]


def test_a_hub_name_without_a_network_is_answered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imdb", "user/reviews"):
        assert complaint(name).startswith(f"'{name}' is no file, no folder, and no data set that the hub gives: ")


def test_the_name_of_a_kind_of_file_is_no_data(tmp_path, monkeypatch):
    save(tmp_path / "private.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    assert complaint("csv").startswith("there is no file or folder 'csv'.")


def test_a_folder_without_a_training_file_is_answered(tmp_path):
    assert complaint(tmp_path) == f"'{tmp_path}' holds no train file such as train.csv; it holds nothing."
    save(tmp_path / "reviews.csv", ROWS)
    assert complaint(tmp_path) == f"'{tmp_path}' holds no train file such as train.csv; it holds reviews.csv."
    save(tmp_path / "test.csv", ROWS)
    save(tmp_path / "dev.csv", ROWS)
    assert complaint(tmp_path) == f"'{tmp_path}' has no training split; it has test, validation."


def test_a_folder_of_folders_is_answered_with_one_of_them(tmp_path):
    save_parts(tmp_path / "cola", ["train-0-of-1.parquet"])
    assert complaint(tmp_path).endswith(f"it holds cola. Give one of its folders, such as '{tmp_path}/cola'.")


def test_two_files_for_one_split_are_answered(tmp_path):
    save(tmp_path / "train.csv", ROWS)
    save(tmp_path / "train.jsonl", ROWS)
    assert complaint(tmp_path) == f"'{tmp_path}' holds two train files, train.csv and train.jsonl; keep one."


def save_parts(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        save(folder / name, [{**row, "part": number} for row in ROWS])
    return folder


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        (".", ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]),
        (".", ["train-00000-of-00002-0a1b2c3d.parquet", "train-00001-of-00002-ffff0000.parquet"]),
        ("data", ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]),
        (".", ["train-0-of-2.csv", "train-1-of-2.csv"]),
    ],
)
def test_the_parts_of_a_split_are_one(tmp_path, folder, names):
    save_parts(tmp_path / folder, names)
    (tmp_path / "README.md").write_text("about")
    splits = read_splits(str(tmp_path))
    assert [str(part) for part in splits["train"]["part"]] == ["0", "0", "1", "1"]
    assert splits["train"].index.tolist() == [0, 1, 2, 3]


def test_a_split_of_one_part_stands_beside_others(tmp_path):
    save_parts(tmp_path / "data", [f"{name}-00000-of-00001.parquet" for name in ("train", "validation", "test")])
    assert {name: len(frame) for name, frame in read_splits(str(tmp_path)).items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["train-00000-of-00003.csv", "train-00002-of-00003.csv"],
            "holds 2 of the 3 train files: number 1 is missing, beside train-00000-of-00003.csv.",
        ),
        (["train-00000-of-00002.csv", "train.csv"], "holds two train files, train-00000-of-00002.csv and train.csv;"),
        (["train-00000-of-00001.csv", "train-00000-of-00002.csv"], "holds two train files, train-00000-of-00001.csv"),
        (["train.csv", "train.csv.gz"], "holds two train files, train.csv and train.csv.gz; keep one."),
    ],
)
def test_parts_that_are_too_few_or_too_many_are_answered(tmp_path, names, said):
    save_parts(tmp_path, [name.removesuffix(".gz") for name in names])
    if names[-1].endswith(".gz"):
        (tmp_path / names[-1]).write_bytes(gzip.compress((tmp_path / names[0]).read_bytes(), mtime=0))
    assert said in complaint(tmp_path)


def test_parts_with_other_columns_are_answered(tmp_path):
    save(tmp_path / "train-0-of-2.csv", ROWS)
    save(tmp_path / "train-1-of-2.csv", [{"text": "a", "class": "good"}])
    assert complaint(tmp_path) == (
        f"'{tmp_path}/train-1-of-2.csv' has the columns 'text, class', but 'train-0-of-2.csv' has 'text, label'."
    )


def test_one_part_alone_is_read_and_told(tmp_path):
    notes: list[str] = []
    path = save(tmp_path / "train-00000-of-00002.parquet", ROWS)
    assert len(read_splits(str(path), notes.append)["train"]) == 2
    assert notes == ["'train-00000-of-00002.parquet' is one of 2 parts; give their folder to read them all"]


def test_compressed_files_of_a_folder_are_read_by_their_names(tmp_path):
    for name in ("train", "test"):
        path = save(tmp_path / f"{name}.jsonl", ROWS)
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    assert {name: held(frame) for name, frame in read_splits(str(tmp_path)).items()} == {"train": ROWS, "test": ROWS}


def test_too_much_data_is_answered_over_all_files(tmp_path, monkeypatch):
    save(tmp_path / "train.csv", ROWS)
    save(tmp_path / "validation.csv", ROWS)
    size = (tmp_path / "train.csv").stat().st_size
    monkeypatch.setattr("autopeft.machine.memory", lambda: 8 * 3 * size)
    assert "validation.csv' is too large" in complaint(tmp_path)


def test_a_column_of_texts_that_are_none_is_answered(tmp_path):
    file = tmp_path / "x.parquet"
    pd.DataFrame({"text": ["some words", "others"], "label": ["a", "b"]}).to_parquet(file, compression=None)
    file.write_bytes(file.read_bytes().replace(b"some words", b"some \xffords"))
    assert "x.parquet' cannot be read as parquet: " in complaint(file)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.xlsx", b"PK", "is no kind of file that can be read; give one of .csv, .tsv"),
        ("x.xlsx", b"PK", "or .zip; save a workbook as 'CSV UTF-8'."),
        ("x.csv.gz", b"text,label\n", "x.csv.gz' cannot be read as csv.gz: Not a gzipped file"),
        (
            "x.csv.gz",
            gzip.compress(b"text,label\na,b\n" * 99, mtime=0)[:-9],
            "cannot be read as csv.gz: Compressed file ended before",
        ),
        ("x.csv.zip", b"text", "x.csv.zip' cannot be read as csv.zip: File is not a zip file."),
        ("x.zip", b"text", "x.zip' cannot be read as zip: File is not a zip file."),
        ("x.csv.xz", b"text", "x.csv.xz' cannot be read as csv.xz: Input format not supported by decoder."),
        ("x.csv.zst", b"text,label\na,b\n", "x.csv.zst' cannot be read as csv.zst: "),
        ("x.gz", gzip.compress(b"a", mtime=0), "x.gz' is no kind of file that can be read"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "is no parquet, but a Git LFS pointer"),
        ("x.parquet", b"", "x.parquet' is empty."),
        ("x.csv.gz", gzip.compress(b"", mtime=0), "x.csv.gz' is empty."),
    ],
)
def test_a_damaged_file_is_answered(tmp_path, name, content, said):
    assert said in complaint(write(tmp_path / name, content))


def test_a_data_argument_that_is_no_file_is_answered_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkfifo("train.csv")
    (tmp_path / "loop").symlink_to("loop")
    assert complaint("/dev/zero") == "'/dev/zero' is a device or a pipe, not a file."
    assert complaint("pipe") == "'pipe' is a device or a pipe, not a file."
    assert complaint(".") == "'train.csv' is a device or a pipe, not a file."
    assert complaint("loop") == "'loop' is a link to nothing."
    assert complaint("x" * 5000).endswith("cannot be read: File name too long.")
    assert complaint("~nobody-of-this-name/x.csv").startswith("'~nobody-of-this-name/x.csv' cannot be read: ")
    assert complaint("a\0b.csv").startswith("there is no file or folder 'a")
    assert complaint("https://example.org/x.csv").startswith("'https://example.org/x.csv' is an address; download")


@pytest.mark.parametrize("name", ["pandas", "text", "arrow", "imagefolder", "parquet", "", "a/b/c/d", "owner/"])
def test_what_cannot_name_a_data_set_is_not_asked_for(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert complaint(name).startswith("there is no file or folder '") or name == ""


def test_a_saved_data_set_that_would_wait_or_decompress_is_answered(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "pipe")
    (tmp_path / "pipe" / "state.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "state.json")
    assert complaint(tmp_path / "pipe") == f"'{tmp_path}/pipe/state.json' is a device or a pipe, not a file."
    dataset.save_to_disk(tmp_path / "small")
    file = next((tmp_path / "small").glob("*.arrow"))
    table = dataset.data.table
    with pa.ipc.new_stream(file, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    assert "arrow' is compressed, so that its size is not known" in complaint(tmp_path / "small")


def test_two_saved_splits_for_one_are_answered_and_others_told(tmp_path, dataset):
    datasets.DatasetDict(train=dataset, dev=dataset, valid=dataset).save_to_disk(tmp_path / "two")
    assert (
        complaint(tmp_path / "two")
        == f"'{tmp_path}/two' holds two validation splits, of which one is 'valid'; keep one."
    )
    datasets.DatasetDict(train=dataset, validation_matched=dataset).save_to_disk(tmp_path / "other")
    notes: list[str] = []
    read_splits(str(tmp_path / "other"), notes.append)
    assert notes == ["splits that are not used: 'validation_matched'"]


def test_names_of_columns_are_such_as_can_be_stored(tmp_path):
    file = write(tmp_path / "x.json", '[{"\\ufeff text ": "a", "\\ud83d": "b", "a\\u0000b": "c"}]')
    assert list(read_splits(str(file))["train"].columns) == ["text", "?", "a\ufffdb"]
