"""Tables of Parquet and Arrow, which may decode to a million times their size: a value that repeats is kept once.

So sizes are known before anything is decoded where the file tells them, and otherwise counted on values that are still
kept once, some thousand rows at a time.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from autopeft.data.files.contents import Allowance, Request, contents, head, is_compressed, require_data
from autopeft.data.files.surviving import survives
from autopeft.errors import AutopeftError

_CELL = 32
"""Bytes that a cell takes as a Python value, besides its text."""
_ROWS = 16_384
"""Decoded at a time."""
_FEW_ROWS = 64
"""Decoded at a time where a value may be long, and nothing tells before."""
_SHARED = ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
"""Encodings that keep what two values share once, but not the values, so that they are known only when decoded."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


def read_parquet(path: Path, request: Request) -> pd.DataFrame:
    """A table of Python values. Raises AutopeftError, and what pyarrow raises, for a damaged file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if is_compressed(path):
        source: Any = pa.BufferReader(bytes(contents(path, request.allowance)))
    else:
        require_data(head(path), path)
        source = str(path)
    with pq.ParquetFile(source) as file:
        schema, metadata = file.schema_arrow, file.metadata
        groups = [metadata.row_group(at) for at in range(file.num_row_groups)]
        columns = [file.schema.column(at) for at in range(metadata.num_columns)]
        request.allowance.take(_CELL * metadata.num_rows * len(schema.names), path)
    if not survives(lambda: [group.column(at) for group in groups for at in range(len(columns))]):
        raise AutopeftError(f"'{path}' is damaged: what its end tells of its columns contradicts itself.")
    once = []
    rows = _ROWS
    for at, column in enumerate(columns):
        chunks = [group.column(at) for group in groups]
        width = _WIDTHS.get(column.physical_type, column.length)
        request.allowance.take(width * sum(chunk.num_values for chunk in chunks), path)
        request.allowance.require(sum(chunk.total_uncompressed_size for chunk in chunks), path)
        if column.physical_type != "BYTE_ARRAY":
            continue
        if not any(encoding in chunk.encodings for chunk in chunks for encoding in _SHARED):
            once.append(column.path)
        elif column.max_repetition_level:
            raise AutopeftError(
                f"the lists in column '{column.path}' of '{path}' are encoded as {_SHARED[0]}, which may decode to any "
                "size; leave that column out, or write it with a dictionary."
            )
        else:
            rows = _FEW_ROWS
    with pq.ParquetFile(source, read_dictionary=once) as file:
        # One group at a time, for pyarrow cannot join what is nested and kept once in each.
        batches = (batch for at in range(len(groups)) for batch in file.iter_batches(rows, row_groups=[at]))
        tables = _counted((pa.Table.from_batches([batch]) for batch in batches), path, request.allowance)
        frame = _with_bytes_as_text(as_frame((_plain(table, schema) for table in tables), schema.names), schema)
    return with_class_names(frame, _features(schema))


def as_frame(tables: Iterable[Any], names: list[str]) -> pd.DataFrame:
    """One table of Python values from Arrow's. What pandas keeps as an index is a column like all others."""
    frames = [
        table.to_pandas(ignore_metadata=True, integer_object_nulls=True).astype(object)
        for table in tables
        if table.num_rows
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names, dtype=object)


def with_class_names(frame: pd.DataFrame, features: Mapping[str, Any]) -> pd.DataFrame:
    """Classes as their names, single or in lists, where the features of `datasets` give them, as plain values.

    None where there is none (-1 in the test splits of benchmarks).
    """
    for at, column in enumerate(frame.columns):
        feature = features.get(column)
        inner = feature.get("feature", feature) if isinstance(feature, dict) else feature
        inner = inner[0] if isinstance(inner, list) and inner else inner
        names = inner.get("names") if isinstance(inner, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            continue
        by_index = dict(enumerate(names))
        cells = frame.iloc[:, at].tolist()
        if all(_is_index(index) for cell in cells for index in (cell if _is_list(cell) else [cell])):
            named = [list(map(by_index.get, cell)) if _is_list(cell) else by_index.get(cell) for cell in cells]
            frame.isetitem(at, cast(Any, pd.Series(named, index=frame.index, dtype=object)))
    return frame


def _is_list(cell: object) -> bool:
    return isinstance(cell, list | np.ndarray)


def _is_index(value: object) -> bool:
    return value is None or isinstance(value, int | np.integer)


def _features(schema: Any) -> Mapping[str, Any]:
    """What `datasets` wrote of its columns into a file."""
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features if isinstance(features, dict) else {}
    return {}


def sliced(dataset: Any, path: object, allowance: Allowance) -> Iterator[Any]:
    """The tables of a `datasets.Dataset`, counted. Raises AutopeftError."""
    arrow = dataset.with_format("arrow")
    allowance.take(_CELL * len(dataset) * len(dataset.column_names), path)
    return _counted((arrow[at : at + _ROWS] for at in range(0, len(dataset), _ROWS)), path, allowance)


def require_mapped(path: Path) -> None:
    """Raises AutopeftError for an Arrow file whose values are not read where they lie, but decompressed all at once.

    pyarrow does not tell which those are; their messages do (Arrow's format, Message.fbs: RecordBatch.compression).
    """
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        for message in pa.ipc.MessageReader.open_stream(source):
            metadata = bytes(message.metadata)
            header = _field(metadata, struct.unpack_from("<I", metadata)[0], 2)
            if header is not None and message.type == "dictionary":
                header = _field(metadata, header, 1)
            if header is not None and message.type != "schema" and _field(metadata, header, 3) is not None:
                raise AutopeftError(
                    f"'{path}' is compressed, so that its size is not known; save the data set with `save_to_disk` of "
                    "datasets, or as Parquet."
                )


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Where a table's field lies that is a table itself; None where there is none. (FlatBuffers' own layout.)"""
    names = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", metadata, names)[0]:
        return None
    at = struct.unpack_from("<H", metadata, names + 4 + 2 * number)[0]
    return table + at + int(struct.unpack_from("<I", metadata, table + at)[0]) if at else None


def _counted(tables: Iterable[Any], path: object, allowance: Allowance) -> Iterator[Any]:
    for table in tables:
        allowance.take(sum(_size(chunk) for column in table.columns for chunk in column.chunks), path)
        yield table


def _size(array: Any) -> int:
    """Bytes of an array's values when each is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    if _is_text(kind):
        return pc.sum(pc.binary_length(array)).as_py() or 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return 8 * len(array) + _size(array.flatten())
    if pa.types.is_struct(kind):
        return sum(map(_size, array.flatten()))
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return sum(value.as_buffer().size for value in array if value.is_valid)
    return int(array.nbytes)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )


def _plain(table: Any, schema: Any) -> Any:
    """With every value written out."""
    import pyarrow as pa

    for at, field in enumerate(schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        table = table.set_column(at, field.name, table.column(at).cast(kind))
    return table


def _with_bytes_as_text(frame: pd.DataFrame, schema: Any) -> pd.DataFrame:
    """Columns of bytes that are text as a whole, as programs write them that do not mark texts."""
    import pyarrow as pa

    for at, kind in enumerate(schema.types):
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            with suppress(UnicodeDecodeError):
                texts = [value.decode() if isinstance(value, bytes) else value for value in frame.iloc[:, at]]
                frame.isetitem(at, np.array(texts, dtype=object))
    return frame
