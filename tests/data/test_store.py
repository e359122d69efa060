from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from autopeft.data import store
from autopeft.data.store import Column, Dataset, kept, open_split

ROWS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [18, 19]]


def dataset(longest: int = 64) -> Dataset:
    columns = {
        "input_ids": Column.ragged(ROWS, np.int32),
        "labels": Column.ragged([[1] * len(row) for row in ROWS], np.int64, padding=-100),
        "scores": Column(np.array([0.5, 1.5, 2.5, 3.5])),
        "pixels": Column(np.arange(4 * 2, dtype=np.uint8).reshape(4, 2)),
    }
    return Dataset(columns, longest)


def both() -> Mapping[str, Dataset]:
    return {"train": dataset(), "validation": dataset(8)}


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_ragged_columns_are_padded_each_in_its_way_with_a_mask_and_fixed_ones_are_stacked():
    batch = dataset().batch([1, 0])
    assert batch["input_ids"].tolist() == [[8, *[0] * 7], [5, 6, 7, *[0] * 5]]
    assert batch["labels"].tolist() == [[1, *[-100] * 7], [1, 1, 1, *[-100] * 5]]
    assert batch["attention_mask"].tolist() == [[1, *[0] * 7], [1, 1, 1, *[0] * 5]]
    assert batch["scores"].tolist() == [1.5, 0.5]
    assert batch["pixels"].tolist() == [[2, 3], [0, 1]]
    kinds = {name: tensor.dtype for name, tensor in batch.items()}
    assert kinds == {
        "input_ids": torch.int64,
        "labels": torch.int64,
        "attention_mask": torch.int64,
        "scores": torch.float32,
        "pixels": torch.uint8,
    }


@pytest.mark.parametrize(("longest", "width"), [(64, 16), (10, 10), (9, 9)])
def test_no_batch_is_padded_beyond_what_a_model_reads(longest, width):
    assert dataset(longest).batch([2])["input_ids"].shape == (1, width)


def test_a_split_without_ragged_columns_has_no_mask():
    data = Dataset({"pixels": Column(np.zeros((3, 2), dtype=np.uint8)), "labels": Column(np.arange(3))}, 1)
    assert set(data.batch([0, 2])) == {"pixels", "labels"}
    assert data.lengths.tolist() == [1, 1, 1]


def test_what_is_kept_is_read_back_memory_mapped(tmp_path):
    folder = kept(tmp_path / "made", both)
    for name, made in both().items():
        read = open_split(folder, name)
        assert len(read) == len(made) == 4
        assert read.lengths.tolist() == [3, 1, 9, 2]
        for indices in ([0], [3, 2, 1], np.array([2, 2])):
            assert all(torch.equal(read.batch(indices)[each], tensor) for each, tensor in made.batch(indices).items())
        assert isinstance(read.columns["input_ids"].values, np.memmap)
        assert read.targets[1].tolist() == [1]


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([], dtype=np.int64)])
def test_some_rows_of_a_column_are_a_column(rows):
    for column in dataset().columns.values():
        taken = column.taken(rows)
        assert len(taken) == len(rows)
        assert all(np.array_equal(taken[place], column[row]) for place, row in enumerate(rows))
        assert taken.values.dtype == column.values.dtype


def test_the_same_is_made_once(tmp_path):
    made = kept(tmp_path / "made", both)
    assert kept(tmp_path / "made", lambda: pytest.fail("made again")) == made
    assert folders(tmp_path) == ["made"]


def test_it_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write = store._write

    def interrupted(folder: Path, data: Dataset) -> None:
        if folder.name == "validation":
            raise KeyboardInterrupt
        write(folder, data)

    monkeypatch.setattr(store, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "made", both)
    assert folders(tmp_path) == []


def test_when_two_make_the_same_at_once_both_find_it_whole(tmp_path):
    inner: list[Path] = []

    def overtaken() -> Mapping[str, Dataset]:
        inner.append(kept(tmp_path / "made", both))
        return both()

    assert [kept(tmp_path / "made", overtaken)] == inner
    assert folders(tmp_path) == ["made"]
    assert len(open_split(inner[0], "validation")) == 4


def test_a_folder_that_cannot_be_written_is_no_silent_success(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        kept(tmp_path / "file" / "made", both)
