"""JSON as people, APIs and pandas write it; what is nested, long or repeated without end is answered."""

import json
from pathlib import Path

import pandas as pd
import pytest

from autopeft.data.files.contents import Allowance, Request
from autopeft.data.files.objects import read_objects
from autopeft.errors import AutopeftError

ROWS = [{"text": "a film", "label": "good"}, {"text": "a mess", "label": "bad"}]
FRAME = pd.DataFrame(ROWS)


def write(folder: Path, held: str, name: str = "x.json") -> Path:
    (folder / name).write_text(held, encoding="utf-8")
    return folder / name


def complaint(path: Path, most: int = 10**9) -> str:
    with pytest.raises(AutopeftError) as caught:
        read_objects(path, Request(Allowance(most)))
    return str(caught.value)


@pytest.mark.parametrize(
    "held",
    [
        json.dumps(ROWS),
        "\n".join(map(json.dumps, ROWS)),
        "\r".join(map(json.dumps, ROWS)),
        "\r\n\r\n".join(map(json.dumps, ROWS)),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "".join(map(json.dumps, ROWS)),
        json.dumps({"data": ROWS}),
        json.dumps({"data": ROWS}, indent=1),
        json.dumps({"version": "1.1", "next": None, "tags": ["a"], "items": ROWS}, indent=1),
        FRAME.to_json(orient="records"),
        FRAME.to_json(orient="records", lines=True),
        FRAME.to_json(orient="columns"),
        FRAME.to_json(orient="index"),
        FRAME.to_json(orient="table", index=False),
        json.dumps(FRAME.to_dict("list")),
    ],
)
def test_what_programs_write_is_read(tmp_path, held):
    frame = read_objects(write(tmp_path, held), Request())
    assert frame.to_dict("records") == ROWS


def test_the_only_line_of_a_file_of_lines_is_a_row(tmp_path):
    row = {"tokens": ["a", "film"], "tags": ["O", "O"]}
    frame = read_objects(write(tmp_path, json.dumps(row), "x.jsonl"), Request())
    assert frame.to_dict("records") == [row]


def test_the_key_below_which_the_rows_lie_is_told(tmp_path):
    notes: list[str] = []
    read_objects(write(tmp_path, json.dumps({"data": ROWS, "rows": 2})), Request(say=notes.append))
    assert notes == ["the rows of 'x.json' are those below its key 'data'"]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            json.dumps({"train": ROWS, "test": ROWS}),
            "holds several lists of objects, below 'train, test'; save those that",
        ),
        (
            json.dumps({"meta": {"rows": ROWS}}),
            "is one object with the keys 'meta', and below none of them lies a list",
        ),
        ("\n".join(json.dumps(row, indent=1) for row in ROWS) + "\n{", "line 9 of '"),
        (json.dumps(ROWS, indent=1) + "\n[]", "line 11 of '"),
        (json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1]) + " x", "line 2 of '"),
        (
            json.dumps({"train": [["a", "good"]], "test": [["b", "bad"]]}),
            "is one object with the keys 'train, test', and",
        ),
        ("[" * 100_000, "holds objects that are nested too deeply"),
        ('{"a":' * 100_000, "holds objects that are nested too deeply"),
        ('{"text": "a"}\n{"a":' + "[" * 100_000, "holds objects that are nested too deeply"),
        (
            '{"text": "a"}\n{"text": ' + "1" * 5001 + "}",
            "of more digits than can be read, in line 2 or after it; write it",
        ),
        (
            '[{"text": ' + "1" * 5001 + "}]",
            "of more digits than can be read, in line 1 or after it; write it as a text",
        ),
        ("[[" + "[1]," * 50_000 + "1]]", "row 1 of '"),
    ],
)
def test_what_is_no_table_is_answered(tmp_path, held, said):
    assert said in complaint(write(tmp_path, held))


def test_objects_that_share_no_key_are_no_table_of_all_memory(tmp_path):
    path = write(tmp_path, "\n".join(f'{{"{number}": 1}}' for number in range(50_000)))
    assert "is too large" in complaint(path)


def test_empty_objects_count_as_what_they_take(tmp_path):
    assert "is too large" in complaint(write(tmp_path, "[" + "{}," * 100_000 + "{}]"), 10**6)
