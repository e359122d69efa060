"""Parquet and Arrow: every value as it is, and never more than is allowed."""

from contextlib import suppress
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.data.files.columnar import as_frame, read_parquet, require_mapped, sliced
from autopeft.data.files.contents import Allowance, Request
from autopeft.errors import AutopeftError

LONG = "x" * 100_000


def repeated(value: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, dtype="int32")), pa.array([value]))


def complaint(path: Path, most: int) -> str:
    with pytest.raises(AutopeftError) as caught:
        read_parquet(path, Request(Allowance(most)))
    return str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        repeated(LONG, 100_000),
        pa.ListArray.from_arrays(pa.array(np.arange(100_001, dtype="int32")), repeated(LONG, 100_000)),
        pa.ListArray.from_arrays(pa.array([0, 100_000], pa.int32()), repeated(LONG, 100_000)),
        pa.StructArray.from_arrays([repeated(LONG, 100_000)], ["text"]),
        pa.array(np.zeros(10_000_000, dtype="int64")),
        pa.array([b"x" * 10_000] * 10_000, pa.binary(10_000)),
        pa.nulls(10_000_000, pa.string()),
    ],
)
def test_a_small_file_that_decodes_to_too_much_is_answered_before_it_is_held(tmp_path, array):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": array}), path, store_schema=False, compression="zstd")
    assert path.stat().st_size < 200_000
    before = pa.total_allocated_bytes()
    assert "x.parquet' is too large: with it the data takes more than 76.3 MiB" in complaint(path, 80_000_000)
    assert pa.total_allocated_bytes() - before < 50_000_000


def test_values_that_share_a_beginning_are_counted_as_they_are_read(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"x": [f"{LONG}{number:05}" for number in range(300)]})
    pq.write_table(table, path, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY", compression="zstd")
    assert path.stat().st_size < 200_000
    assert "is too large" in complaint(path, 5_000_000)
    assert len(read_parquet(path, Request(Allowance(10**9)))["x"][299]) == 100_005
    lists = pa.table({"x": [["a", "b"]] * 9})
    pq.write_table(lists, path, use_dictionary=False, column_encoding={"x.list.element": "DELTA_BYTE_ARRAY"})
    assert "the lists in column 'x.list.element' of '" in complaint(path, 10**9)


def test_what_fits_is_read_as_it_is(tmp_path):
    rows = {
        "text": ["a film", None, "a film"],
        "kind": pd.Categorical(["a", "b", "a"]),
        "label": pd.Series([2**60 + 1, None, 3], dtype="Int64"),
        "flag": [True, None, False],
        "tokens": [["a", "b"], [], None],
        "part": [{"text": "x"}, {"text": None}, {"text": "z"}],
        "bytes": [b"a film", b"a book", None],
        "other": [b"\xff", b"a", b"b"],
    }
    path = tmp_path / "x.parquet"
    pd.DataFrame(rows).to_parquet(path, row_group_size=2)
    frame = read_parquet(path, Request())
    assert frame["text"].fillna("").tolist() == ["a film", "", "a film"]
    assert frame["kind"].tolist() == ["a", "b", "a"]
    assert frame["label"].tolist() == [2**60 + 1, None, 3]
    assert frame["flag"].tolist() == [True, None, False]
    assert [None if each is None else list(each) for each in frame["tokens"]] == [["a", "b"], [], None]
    assert frame["part"].tolist() == rows["part"]
    assert frame["bytes"].fillna("").tolist() == ["a film", "a book", ""]
    assert frame["other"].tolist() == [b"\xff", b"a", b"b"]


def test_what_pandas_keeps_as_an_index_is_a_column(tmp_path):
    pd.DataFrame({"text": ["a", "b"], "label": [1, 2]}).set_index("text").to_parquet(tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet", Request())["text"].tolist() == ["a", "b"]


FEATURES = datasets.Features(
    {
        "label": datasets.ClassLabel(names=["bad", "good"]),
        "tags": datasets.List(datasets.ClassLabel(names=["O", "B-PER"])),
        "rating": datasets.Value("int64"),
    }
)


def test_classes_have_the_names_that_datasets_wrote_into_the_file(tmp_path):
    rows = {"label": [1, 0, -1, None], "tags": [[0, 1], [], None, [0]], "rating": [1, 2, 3, 4]}
    datasets.Dataset.from_dict(rows, FEATURES).to_parquet(tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet", Request()).to_dict("list") == {
        "label": ["good", "bad", None, None],
        "tags": [["O", "B-PER"], [], None, ["O"]],
        "rating": [1, 2, 3, 4],
    }


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"[" * 100_000,
        b"[]",
        b'{"info": 1}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": {"names": [1]}}}}',
        b'{"info": {"features": {"label": [], "text": {"names": ["a"]}}}}',
    ],
)
def test_what_a_file_tells_amiss_of_its_classes_is_not_believed(tmp_path, told):
    table = pa.table({"label": [0, 1], "text": ["a", "b"]}).replace_schema_metadata({b"huggingface": told})
    pq.write_table(table, tmp_path / "x.parquet")
    held = read_parquet(tmp_path / "x.parquet", Request())
    assert held.to_dict("list") == {"label": [0, 1], "text": ["a", "b"]}


def test_more_rows_than_are_decoded_at_a_time_stay_in_order(tmp_path):
    pd.DataFrame({"text": map(str, range(40_000))}).to_parquet(tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet", Request())["text"].tolist() == list(map(str, range(40_000)))


def test_a_data_set_is_read_by_slices_in_its_order_and_counted():
    dataset = datasets.Dataset.from_dict({"text": [f"a film of {number}" for number in range(40_000)]}).shuffle(seed=1)
    frame = as_frame(sliced(dataset, "x", Allowance(10**8)), dataset.column_names)
    assert frame["text"].tolist() == dataset["text"][:]
    with pytest.raises(AutopeftError, match="is too large"):
        as_frame(sliced(dataset, "x", Allowance(10**6)), dataset.column_names)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_compressed_arrow_file_is_answered_before_it_is_decoded(tmp_path, kind):
    table = pa.table({"x": pa.array([LONG] * 500).cast(kind)})
    for compression in (None, "zstd", "lz4"):
        path = tmp_path / f"{compression}.arrow"
        with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
            stream.write_table(table)
        if compression is None:
            require_mapped(path)
            continue
        before = pa.total_allocated_bytes()
        with pytest.raises(
            AutopeftError, match="arrow' is compressed, so that its size is not known; save the data set"
        ):
            require_mapped(path)
        assert pa.total_allocated_bytes() - before < 1_000_000


@given(st.binary(max_size=200))
def test_a_damaged_arrow_file_ends(tmp_path_factory, held):
    path = tmp_path_factory.getbasetemp() / "x.arrow"
    with pa.ipc.new_stream(path, pa.schema({"x": pa.int64()})) as stream:
        stream.write_table(pa.table({"x": [1, 2, 3]}))
    path.write_bytes(path.read_bytes()[:-8] + held)
    with suppress(AutopeftError, ValueError, OSError):
        require_mapped(path)


CONTRADICTION = (
    "504152311500152c152c2c15041500150615061c3600280179180178111100000002000000040002000000040301000000780100000079"
    "1504194c35001806736368656d611502003500180174150215064c3c000000350418046c697374150200150c25021807656c656d656e74"
    "25004c1c0000001604191c191c26001c150c1925060019380174046c69737407656c656d656e74150016041666166626083c3600280179"
    "180178111100191c150015001502003c1604192604001946000000040000001666160426081666002820706172717565742d6370702d61"
    "72726f772076657273696f6e2032362e302e31191c1c000000be00000050415231"
)
"""A list that may be missing in the levels of its values, and may not in its schema: pyarrow ends the process on it."""


def test_a_footer_that_would_end_the_process_is_answered(tmp_path):
    (tmp_path / "x.parquet").write_bytes(bytes.fromhex(CONTRADICTION))
    with pytest.raises(AutopeftError, match=r"x\.parquet' is damaged: what its end tells of its columns contradicts"):
        read_parquet(tmp_path / "x.parquet", Request())
