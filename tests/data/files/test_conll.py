from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.data.files.conll import is_conll, read_conll
from autopeft.data.files.contents import Allowance, Request
from autopeft.data.reading import read_splits
from autopeft.errors import AutopeftError
from tests.watchdog import ended_after

SENTENCES = [(["Alice", "visits", "Paris"], ["B-PER", "O", "B-LOC"]), (["#", "rain", "?"], ["O", "O", "O"])]
SPACED = "Alice B-PER\nvisits O\nParis B-LOC\n\n# O\nrain O\n? O\n"


def read(
    folder: Path, content: str | bytes, name: str = "x.conll"
) -> tuple[list[tuple[list[str], list[str]]], list[str]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    notes: list[str] = []
    frame = read_splits(str(path), notes.append)["train"]
    assert list(frame.columns) == ["tokens", "tags"]
    assert set(frame.dtypes) == {np.dtype(object)}
    return list(zip(frame["tokens"], frame["tags"], strict=True)), notes


def complaint(folder: Path, content: str | bytes, name: str = "x.conll") -> str:
    with pytest.raises(AutopeftError) as caught:
        read(folder, content, name)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


@pytest.mark.parametrize("name", ["x.conll", "x.bio", "x.iob", "x.IOB2", "x.txt", "x.tsv", "x.conllu"])
@pytest.mark.parametrize(
    "content",
    [
        SPACED,
        SPACED.replace(" ", "\t"),
        SPACED.replace("\n", "\r\n"),
        SPACED.replace(" ", " x _ "),
        SPACED.replace(" ", "   ").replace("\n", "  \n"),
        "\n\n" + SPACED.strip() + "\n\n\n",
        "-DOCSTART- -X- -X- O\n\n" + SPACED + "-DOCSTART- O\n\n",
        SPACED.replace("\n\n", "\n-DOCSTART- O\n"),
        "\ufeff" + SPACED,
        "# sent_id = 1\n# text = Alice visits Paris\n" + SPACED.replace("\n\n", "\n\n# 2\n"),
        "token tag\n" + SPACED,
        "".join(
            f"{'1' if word in ('Alice', '#') else '2' if word in ('visits', 'rain') else '3'}\t{word}\t{tag}\n"
            + ("\n" if word == "Paris" else "")
            for words, tags in SENTENCES
            for word, tag in zip(words, tags, strict=True)
        ),
    ],
)
def test_sentences_are_read_however_they_are_written(tmp_path, content, name):
    assert read(tmp_path, content, name)[0] == SENTENCES


def test_tokens_may_hold_what_only_looks_like_an_end_of_a_word_or_line(tmp_path):
    tokens = ["New York", "10\u00a0km", "a\u2028b", "\u200b"]
    content = "".join(f"{token}\tO\n" for token in tokens)
    assert read(tmp_path, content)[0] == [(tokens, ["O"] * 4)]


def test_comments_with_as_many_columns_as_tokens_are_comments(tmp_path):
    content = "# id 5239d808 domain=en\nParis _ _ B-LOC\nis _ _ O\n"
    assert read(tmp_path, content)[0] == [(["Paris", "is"], ["B-LOC", "O"])]


def test_universal_dependencies_give_parts_of_speech(tmp_path):
    rows = [
        ("1-2", "vámonos", "_", "_"),
        ("1", "vamos", "ir", "VERB"),
        ("2", "nos", "nosotros", "PRON"),
        ("2.1", "x", "y", "VERB"),
    ]
    content = "# text = vámonos\n" + "".join("\t".join((*row, *"_" * 6)) + "\n" for row in rows)
    sentences, notes = read(tmp_path, content, "es.conllu")
    assert sentences == [(["vamos", "nos"], ["VERB", "PRON"])]
    assert notes == [
        "tags of 'es.conllu' are the universal parts of speech, the fourth column of CoNLL-U",
        "'es.conllu' holds no blank lines between sentences; it is a single row",
    ]


def test_parts_of_speech_are_tags_where_the_ending_tells_that_it_is_conll(tmp_path):
    assert read(tmp_path, "The DT\ncat NN\n\nSits VBZ\n")[0] == [(["The", "cat"], ["DT", "NN"]), (["Sits"], ["VBZ"])]


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path):
    for name in ("train.txt", "testa.txt", "testb.txt"):
        (tmp_path / name).write_text(SPACED)
    assert {name: len(frame) for name, frame in read_splits(str(tmp_path)).items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Paris B-LOC\nis\n", "line 2 of '{}' holds one column only, 'is'"),
        ("Paris\nB-LOC\n", "line 1 of '{}' holds one column only, 'Paris'"),
        ("Paris\tB-LOC\nis\t\n", "line 2 of '{}' holds one column only, 'is'"),
        ("Paris\tB-LOC\nis O\n", "line 2 of '{}' holds one column only, 'is O'"),
        ("Paris B-LOC\n\nis V O\n", "line 3 of '{}' has 3 columns between blanks, but the first has 2"),
        ("Paris B-LOC\n#hashtag\n", "line 2 of '{}' holds one column only, '#hashtag'"),
        ("Paris\tB-LOC\n\n\tO\n", "line 3 of '{}' has no token before its tag"),
        ("Paris\t_\nis\t_\n", "'{}' holds only '_' for tags"),
        ("# nothing\n\n-DOCSTART- O\n", "'{}' holds no tokens"),
        ("", "'{}' is empty"),
        (b"Paris B-LOC\nZ\xfcrich B-LOC\n", "'{}' is not UTF-8 text: line 2 holds the byte 0xfc"),
        ("Paris B-LOC\n".encode("utf-16-le"), "'{}' is no text: line 1 holds a zero byte"),
        (b"\x1f\x8b\x08\0", "'{}' is no conll, but compressed by gzip"),
    ],
)
def test_what_cannot_be_read_is_answered_with_its_line(tmp_path, content, reason):
    assert complaint(tmp_path, content).startswith(reason.format(tmp_path / "x.conll"))


def test_a_file_without_blank_lines_is_said_to_be_one_row(tmp_path):
    sentences, notes = read(tmp_path, "Paris B-LOC\nis O\n")
    assert len(sentences) == 1
    assert notes == ["'x.conll' holds no blank lines between sentences; it is a single row"]


def test_more_cells_than_memory_holds_are_refused(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text("a O\n" * 10_000)
    with pytest.raises(AutopeftError, match="is too large"):
        read_conll(path, Request(Allowance(10**6)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text\tlabel\na film\tO\nanother\tgood\n",
        "text\tlabel\na film\tgood\n\nanother\tbad\n",
        "O\nO\n",
        "The DT\ncat NN\n",
        "The\tDT\ncat\tNN\n\nSits\tVBZ\n",
        "text;label\nfilm one;good\n\nfilm two;bad\n",
        "one text\n\nand another one\n",
        "a O\nb c O\n",
    ],
)
def test_other_tables_are_not_taken_for_conll(text):
    assert not is_conll(text)


def test_parts_of_speech_between_blanks_are_known_by_their_sentences(tmp_path):
    assert read(tmp_path, "The DT\ncat NN\n\nSits VBZ\n", "x.txt")[0] == [
        (["The", "cat"], ["DT", "NN"]),
        (["Sits"], ["VBZ"]),
    ]


def test_a_long_file_is_known_by_its_first_lines():
    assert is_conll("Paris B-LOC\n" * 1000 + "broken\n")


WORDS = st.text(st.characters(codec="utf-8", exclude_characters=" \t\r\n\0"), min_size=1, max_size=6)


@given(st.lists(st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-a", "I-a"])), min_size=1, max_size=4), min_size=1))
def test_what_is_written_is_read_equal(tmp_path_factory, sentences):
    path = tmp_path_factory.getbasetemp() / "written.conll"
    written = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in sentence) for sentence in sentences)
    # Programs that write such tokens do not mark them, so that nobody can know what they are.
    if "-DOCSTART-" in written or "\ufeff" in written[0]:
        return
    path.write_text(written, encoding="utf-8", newline="")
    frame = read_conll(path, Request())
    assert isinstance(frame, pd.DataFrame)
    assert [list(zip(*row, strict=True)) for row in frame[["tokens", "tags"]].to_numpy()] == sentences


@given(st.text(alphabet="#ab \t\n\r\u00a0O_-B1.", max_size=60), st.sampled_from((".conll", ".txt")))
def test_any_text_is_read_or_answered(tmp_path_factory, text, kind):
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    path.write_text(text, encoding="utf-8", newline="")
    with ended_after(20), suppress(AutopeftError):
        frame = read_splits(str(path))["train"]
        if kind == ".conll":
            assert all(map(len, frame["tokens"]))
            assert frame["tokens"].map(len).tolist() == frame["tags"].map(len).tolist()
