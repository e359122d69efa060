"""What programs write is read equal; what would lose or change a row in silence is answered."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autopeft.data.files.contents import Request
from autopeft.data.files.separated import read_separated
from autopeft.errors import AutopeftError

ROWS = [["a stirring film", "good"], ["so dull, so long", "bad"], ['they say "go"', "good"], ["a\nmess", "bad"]]


def write(folder: Path, content: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, *named: str) -> tuple[pd.DataFrame, list[str]]:
    notes: list[str] = []
    return read_separated(path, Request(say=notes.append, named=frozenset(named))), notes


def complaint(path: Path) -> str:
    with pytest.raises(AutopeftError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("excel.csv", "sep=;\r\ntext;label\r\na film, long;good\r\n"),
        ("excel-quoted.csv", '"sep=;"\r\ntext;label\r\na film, long;good\r\n'),
        ("excel-tab.csv", "\ufeffSEP=\t\ntext\tlabel\na film, long\tgood\n"),
        ("excel-semicolon.csv", '\ufefftext;label\r\n"a film, long";good\r\n'),
        ("excel-unicode.txt", 'text\tlabel\r\n"a film, long"\tgood\r\n'.encode("utf-16")),
        ("big-endian.csv", b"\xfe\xff" + 'text,label\n"a film, long",good\n'.encode("utf-16-be")),
        ("utf-32.csv", 'text,label\n"a film, long",good\n'.encode("utf-32")),
        ("two-marks.csv", "\ufeff\ufefftext;label\na film, long;good\n"),
        ("pipe.csv", "text|label\na film, long|good\n"),
        ("pipe.txt", "text|label\na film, long|good\n"),
        ("blank.csv", '"text", "label"\n"a film, long", "good"\n'),
        ("blank-below.csv", 'text,label\n"a film, long", "good"\n'),
        ("blank-in-the-header.csv", 'text, label\n"a film, long",good\n'),
        ("old-mac.csv", 'text,label\r"a film, long",good\r'),
        ("names.csv", '" text ","label\u00a0"\n"a film, long",good\n'),
        ("trailing.csv", "text;label;\na film, long;good;\n"),
        ("trailing-below.csv", "text;label\na film, long;good;\n"),
        ("r.csv", '"","text","label"\n"1","a film, long","good"\n'),
        ("r-table.tsv", '"text"\t"label"\n"1"\t"a film, long"\t"good"\n'),
        ("r-table.txt", '"text" "label"\n"1" "a film, long" "good"\n'),
        ("pandas.csv", ',text,label\n0,"a film, long",good\n'),
        ("pandas-again.csv", 'Unnamed: 0,text,label\n0,"a film, long",good\n'),
        ("twice.csv", 'text,label\n"a film, long",good\ntext,label\n'),
        ("other-separator-in-a-name.csv", '"text","label","a;b;c"\n"a film, long",good,1\n'),
        ("more-commas-than-semicolons.csv", "text;label;a, b, c, d\na film, long;good;1\n"),
    ],
)
def test_what_programs_write_is_read(tmp_path, name, content):
    table, _ = read(write(tmp_path, content, name))
    assert table[["text", "label"]].to_numpy().tolist() == [["a film, long", "good"]]


def test_a_quote_that_is_escaped_by_a_backslash_is_read_and_other_backslashes_stay(tmp_path):
    table, _ = read(write(tmp_path, 'text,label\n"they say \\"go\\", \\d+",good\n"C:\\\\",bad\n'))
    assert table["text"].tolist() == ['they say "go", \\d+', "C:\\\\"]


def test_what_a_database_writes_for_nothing_is_an_empty_cell(tmp_path):
    table, _ = read(write(tmp_path, "text\tlabel\n\\N\tgood\na \\N b\t\\N\n", "x.tsv"))
    assert table.to_numpy().tolist() == [["", "good"], ["a \\N b", ""]]


def test_quotes_after_a_blank_that_belong_to_a_text_stay(tmp_path):
    path = tmp_path / "x.csv"
    pd.DataFrame({"text": [' "so"', "he said, ", "a"], "label": ["x", ' "y"', "x"]}).to_csv(path, index=False)
    assert read(path)[0].to_numpy().tolist() == [[' "so"', "x"], ["he said, ", ' "y"'], ["a", "x"]]


def test_a_line_number_counts_the_line_with_the_separator(tmp_path):
    assert complaint(write(tmp_path, "sep=;\ntext;label\na;good\nb\n")).startswith("line 4 of '")


@pytest.mark.parametrize(
    "content",
    [
        "text,label\n1984, a book,good\nI came, I saw,good\n",
        "text,label\na film, long,good\n",
        "text,label\na film,good,\na book,bad,x\n",
        "text,label\na film,good\na book,bad,\n",
    ],
)
def test_a_row_with_too_many_cells_is_answered(tmp_path, content):
    assert "has 3 cells, but the header has 2; a text that holds ','" in complaint(write(tmp_path, content))


NO_HEADER = '"a stirring film",good\n"so dull, so long",bad\n"a mess",bad\n"much fun",good\n'


def test_a_table_without_a_header_is_answered(tmp_path):
    path = write(tmp_path, NO_HEADER)
    assert complaint(path) == (
        f"'{path}' has no header: 'good' of its first line stands in 1 further rows. Put a line of names such as "
        "text,label above it; if the first line is the header, give --text and --label."
    )
    assert "has no header: '1'" in complaint(write(tmp_path, "a film\t1\na book\t0\na play\t1\na song\t0\n"))
    assert "has no header: 'comment'" in complaint(
        write(tmp_path, "nice!,comment\nwhy?,question\nso,comment\nor?,question\n")
    )


def test_a_first_line_is_a_header_when_the_user_named_its_columns(tmp_path):
    table, _ = read(write(tmp_path, NO_HEADER), "good")
    assert len(table) == 3


@pytest.mark.parametrize(
    "content",
    [
        "text,spam\na,ham\nb,spam\nc,spam\nd,ham\n",
        "0,1\na,1\nb,0\nc,1\nd,0\n",
        ",0,1\n0,a,1\n1,b,0\n2,c,1\n3,d,0\n",
        "worte,urteil\na,ja\nb,nein\nc,ja\nurteil,nein\n",
    ],
)
def test_a_header_of_which_a_name_stands_in_a_row_too_is_a_header(tmp_path, content):
    assert len(read(write(tmp_path, content))[0]) == 4


def test_a_first_line_that_may_be_a_row_is_told(tmp_path):
    long = "a film that is neither good nor bad but goes on and on until everybody has left"
    _, notes = read(write(tmp_path, f"{long},so-so\na,good\nb,bad\nc,good\n"))
    assert notes == [f"the first line of 'x.csv' is taken for the names of its columns, not for a row: '{long[:58]}…"]


@pytest.mark.parametrize(
    "above", ["# exported on Monday, by me\n", "Survey,\n,\n", "# one\r\n# two\r\n", "sep=,\nFilms\n"]
)
def test_lines_above_the_header_are_left_out_and_told(tmp_path, above):
    table, notes = read(write(tmp_path, above + "text,label\na,good\nb,bad\n"))
    assert table.to_numpy().tolist() == [["a", "good"], ["b", "bad"]]
    count = above.removeprefix("sep=,\n").count("\n")
    assert notes == [f"lines above the header of 'x.csv', left out: {count}"]


def test_the_line_of_a_fault_below_a_title_is_told(tmp_path):
    assert complaint(write(tmp_path, "Films\n\ntext,label\na,good\nb\n")).startswith("line 5 of '")


def test_a_tab_separates_before_commas_of_texts(tmp_path):
    table, _ = read(write(tmp_path, "text, as it was, said\tlabel\na, b, c\tgood\n", "x.txt"))
    assert table.to_numpy().tolist() == [["a, b, c", "good"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "| text | label |\n|------|-------|\n| a | good |\n",
            "is a table drawn with lines, for people to read; export",
        ),
        ("+---+---+\n| text | label |\n+---+---+\n| a | b |\n", "is a table drawn with lines"),
        (" text | label \n------+-------\n a | b\n", "is a table drawn with lines"),
        (
            "__label__good a film\n__label__bad a mess\n",
            "is in the form of fastText; write it as CSV with a header such",
        ),
    ],
)
def test_a_table_of_another_form_is_answered(tmp_path, content, said):
    assert said in complaint(write(tmp_path, content, "x.txt"))


def test_a_line_of_dashes_in_a_text_is_a_part_of_it(tmp_path):
    assert read(write(tmp_path, 'text,label\n"# Title\n---\nabout",good\n'))[0]["text"][0] == "# Title\n---\nabout"


def test_rows_that_repeat_the_header_are_left_out_and_told(tmp_path):
    table, notes = read(write(tmp_path, "text,label\na,good\ntext, label\nb,bad\n"))
    assert table["text"].tolist() == ["a", "b"]
    assert notes == ["rows of 'x.csv' that repeat its header, left out: 1"]


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12) | st.sampled_from(
    [row[0] for row in ROWS]
)


def texts() -> st.SearchStrategy[list[list[str]]]:
    """Rows that are neither empty nor their header."""
    rows = st.lists(st.lists(TEXTS, min_size=2, max_size=2), min_size=1, max_size=6)
    return rows.filter(lambda rows: all(any(cell.strip() for cell in row) and "\\N" not in row for row in rows))


@given(
    texts(),
    st.sampled_from(",;\t|"),
    st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)),
    st.sampled_from(("utf-8", "utf-8-sig", "utf-16")),
    st.sampled_from(("\n", "\r\n", "\r")),
    st.booleans(),
)
def test_what_pandas_writes_is_read_equal(tmp_path_factory, rows, separator, quoting, encoding, end, index):
    # Ends of lines other than its own are written without quotes, and cannot be told from ends of rows.
    foreign = set("\r\n") - set(end)
    assume(quoting != csv.QUOTE_MINIMAL or not foreign & {each for row in rows for cell in row for each in cell})
    # Between tabs, quotes around a text that holds a tab cannot always be told from quotes that belong to texts.
    assume(
        not (separator == "\t" and quoting == csv.QUOTE_MINIMAL and any("\t" in cell for row in rows for cell in row))
    )
    path = tmp_path_factory.getbasetemp() / "pandas.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(
        path, sep=separator, quoting=quoting, encoding=encoding, lineterminator=end, index=index
    )
    table, notes = read(path)
    assert table[["text", "label"]].to_numpy().tolist() == rows
    assert notes == []


@given(texts(), st.sampled_from((",", ";")))
def test_what_r_writes_is_read_equal(tmp_path_factory, rows, separator):
    """`write.csv` and `write.csv2`, with row names."""
    path = tmp_path_factory.getbasetemp() / "r.csv"
    table = [["", "text", "label"], *([str(number), *row] for number, row in enumerate(rows, 1))]
    quoted = (separator.join('"{}"'.format(cell.replace('"', '""')) for cell in row) + "\n" for row in table)
    path.write_bytes("".join(quoted).encode())
    assert read(path)[0][["text", "label"]].to_numpy().tolist() == rows


@given(texts())
def test_what_excel_writes_is_read_equal(tmp_path_factory, rows):
    """'CSV UTF-8' of a machine where the comma stands for the point."""
    path = tmp_path_factory.getbasetemp() / "excel.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, "excel", delimiter=";").writerows([["text", "label"], *rows])
    assert read(path)[0].to_numpy().tolist() == rows
