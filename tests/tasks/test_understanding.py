import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autopeft.errors import AutopeftError
from autopeft.tasks.understanding import TaskData, understand

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

Rows = list[dict[str, object]]


def rows(count: int = 40, *labels: object, start: int = 0) -> Rows:
    names = labels or ("bad", "good")
    return [
        {"text": f"a film of {number}", "label": names[number % len(names)]} for number in range(start, start + count)
    ]


def save(folder: Path, train: Rows, **others: Rows) -> str:
    folder.mkdir(exist_ok=True)
    for name, some in {"train": train, **others}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    return str(folder)


def given(text: object = (), label: object = None, **_: object) -> dict[str, tuple[str, ...]]:
    """Columns by role."""
    return {role: names for role, names in (("text", text), ("label", (label,) if label else ())) if names}  # type: ignore[misc]


def complaint(data: str, **settings: object) -> str:
    with pytest.raises(AutopeftError) as caught:
        understand(data, given(**settings), task=str(settings.get("task", "auto")))
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def texts(data: TaskData, split: str) -> set[str]:
    return {each[0] for each in data.splits[split].inputs}


def test_data_is_understood_and_described(tmp_path):
    folder = save(
        tmp_path, rows(30, "b", "a", "a"), validation=rows(10, "a", "b", start=30), test=rows(5, "a", start=40)
    )
    data = understand(folder)
    assert data.columns == {"label": ("label",), "text": ("text",)}
    assert data.task.classes == ("a", "b")
    assert data.splits["train"].inputs[1] == ("a film of 1",)
    assert data.splits["train"].targets.values[:4].tolist() == [1, 0, 0, 1]
    assert data.described() == (
        "text-classification: text -> label",
        "rows: 30 train, 10 validation, 5 test",
        "2 classes: a 67%, b 33%",
    )


def test_of_many_classes_the_five_most_frequent_are_described(tmp_path):
    data = understand(save(tmp_path, rows(70, *"gfedcba", "a", "a", "a"), validation=rows(7, *"abcdefg", start=70)))
    assert data.described()[2] == "7 classes: a 40%, b 10%, c 10%, d 10%, e 10%, and 2 more"


def test_pairs_are_pairs_of_texts(tmp_path):
    some = [{"premise": f"it is {n}", "hypothesis": f"not {n}", "label": n % 3} for n in range(40)]
    data = understand(save(tmp_path, some, validation=some[:3]))
    assert data.columns == {"label": ("label",), "text": ("premise", "hypothesis")}
    assert data.splits["validation"].inputs[1] == ("it is 1", "not 1")
    assert data.task.classes == ("0", "1", "2")
    assert data.described()[0] == "text-classification: premise + hypothesis -> label"


def test_of_a_pair_one_text_may_be_missing_but_not_both(tmp_path):
    some = [{"text_a": f"it is {n}", "text_b": ("so", "", None)[n % 3], "label": n % 2} for n in range(40)]
    data = understand(save(tmp_path, some, validation=some[:3]))
    assert data.splits["validation"].inputs == (("it is 0", "so"), ("it is 1", ""), ("it is 2", ""))
    said = complaint(save(tmp_path, [*some, {"text_a": " ", "text_b": None, "label": 1}]))
    assert said.startswith(
        "column 'text_a' and 'text_b' has no text in 1 of 41 rows of the train split, the first is row 41"
    )


def test_a_validation_split_is_split_off_where_there_is_none(tmp_path):
    data = understand(save(tmp_path, rows(60, "a", "b", "b"), test=rows(20, "a", "b", start=60)), seed=3)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "validation": 20, "test": 20}
    assert texts(data, "train") | texts(data, "validation") == {f"a film of {number}" for number in range(60)}
    assert data.notes == ("validation: split off the training data, stratified, seed 3",)
    for split in data.splits.values():
        assert split.targets.values.mean() == pytest.approx(2 / 3, abs=0.2)


def test_the_split_off_depends_on_the_seed_alone(tmp_path):
    folder = save(tmp_path, rows(60))
    one, again, other = understand(folder, seed=1), understand(folder, seed=1), understand(folder, seed=2)
    assert texts(one, "validation") == texts(again, "validation") != texts(other, "validation")
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_the_test_split_is_carried_along_and_changes_nothing_else(tmp_path):
    without = understand(save(tmp_path / "a", rows(60)))
    with_test = understand(save(tmp_path / "b", rows(60), test=rows(9, "good", "new", "bad", start=60)))
    assert with_test.fingerprint == without.fingerprint
    assert with_test.task == without.task
    assert with_test.splits["validation"].inputs == without.splits["validation"].inputs
    assert len(with_test.splits["test"]) == 6
    assert with_test.notes == (*without.notes, "test rows without a text or a known label, left out: 3")


@pytest.mark.parametrize("labels", [(None,), (-1,), ("",), ([1],)])
def test_a_test_split_without_labels_is_left_out(tmp_path, labels):
    data = understand(save(tmp_path, rows(60), test=rows(9, *labels)))
    assert set(data.splits) == {"train", "validation"}
    assert "test rows without a text or a known label, left out: 9" in data.notes


def test_a_test_split_without_a_column_of_labels_is_left_out(tmp_path):
    data = understand(save(tmp_path, rows(60), test=[{"text": "a film"}]))
    assert set(data.splits) == {"train", "validation"}
    assert "test rows without a text or a known label, left out: 1" in data.notes


@pytest.mark.parametrize("text", [None, 5, " ", ["a"]])
def test_test_rows_without_a_text_are_left_out(tmp_path, text):
    data = understand(save(tmp_path, rows(60), test=[*rows(2), {"text": text, "label": "bad"}]))
    assert len(data.splits["test"]) == 2


def test_test_pairs_of_which_one_is_no_text_are_left_out(tmp_path):
    some = [{"text_a": f"it is {n}", "text_b": f"not {n}", "label": n % 2} for n in range(40)]
    data = understand(save(tmp_path, some, test=[*some[:2], {**some[2], "text_b": 5}, {**some[3], "text_a": None}]))
    assert data.splits["test"].inputs == (("it is 0", "not 0"), ("it is 1", "not 1"), ("", "not 3"))


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    def fingerprint(some: Rows, **others: Rows) -> str:
        return understand(save(tmp_path, some, validation=others.get("validation", rows(4)))).fingerprint

    usual = fingerprint(rows(60))
    assert fingerprint([{"more": 1, **row} for row in rows(60)]) == usual
    assert fingerprint([*rows(59), {"text": "another", "label": "good"}]) != usual
    assert fingerprint([*rows(59), {**rows(60)[59], "label": "bad"}]) != usual
    assert fingerprint(rows(60), validation=rows(6)) != usual
    assert fingerprint(rows(60, "Bad", "Good"), validation=rows(4, "Bad", "Good")) != usual


def test_texts_in_training_and_in_validation_are_told(tmp_path):
    data = understand(save(tmp_path, rows(40), validation=rows(10, start=35)))
    assert data.notes == ("texts both in training and in validation: 5",)


def test_texts_in_any_two_splits_are_told(tmp_path):
    other = [{**row, "label": "bad"} for row in rows(4, start=42)]
    data = understand(save(tmp_path, rows(40), validation=rows(10, start=36), test=[*rows(2), *other]))
    assert data.notes == (
        "texts both in training and in validation: 4",
        "texts both in training and in test: 2",
        "texts both in validation and in test: 4, of which 2 with another label",
    )


def test_a_text_in_training_and_in_test_is_told_where_validation_is_split_off(tmp_path):
    data = understand(save(tmp_path, rows(60), test=rows(9)))
    shared = [int(note.rpartition(" ")[2]) for note in data.notes if note.startswith("texts both in ")]
    assert len(shared) == 2
    assert sum(shared) == 9


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ((True, False), ("False", "True")),
        ((2, 10, 1), ("1", "2", "10")),
        ((1.0, 0.0), ("0", "1")),
        (("1.0", "0.0"), ("0", "1")),
        ((0.5, 10.0, 1.5), ("0.5", "1.5", "10")),
        ((" good ", "bad\t"), ("bad", "good")),
        (("²", "--5", "b", "3", "-1"), ("-1", "3", "--5", "b", "²")),
        (("ja", "nein", "jein"), ("ja", "jein", "nein")),
        (("007", "7"), ("007", "7")),
        ((0.0, -0.0, 1.0), ("0", "1")),
        (("0.0", "-0.0", "-0", "1"), ("0", "1")),
        (("e\u0301t\u00e9", "\u00e9te\u0301", "hiver"), ("hiver", "\u00e9t\u00e9")),
        (("\u00a0good\u00a0", "good", "bad"), ("bad", "good")),
        (("good\0", "bad"), ("bad", "good\ufffd")),
    ],
)
def test_labels_are_names_in_their_natural_order(tmp_path, given, understood):
    assert understand(save(tmp_path, rows(40, *given))).task.classes == understood


def test_whole_numbers_are_the_same_labels_with_and_without_a_fraction(tmp_path):
    data = understand(save(tmp_path, rows(40, 0, 1), validation=rows(4, 0.0, "1.0")))
    assert data.task.classes == ("0", "1")
    assert data.splits["validation"].targets.values.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("True", "TRUE", "False"), "'TRUE' and 'True'"),
        (("good", "Good ", "so so", "so  so"), "'Good' and 'good'; 'so  so' and 'so so'"),
        (("1", "01", "2"), "'01' and '1'"),
        (("good", "good\u200b"), "'good' and 'good\\u200b'"),
        (
            tuple(each for letter in "abcd" for each in (letter, letter.upper())),
            "'A' and 'a'; 'B' and 'b'; 'C' and 'c', and 1 more",
        ),
    ],
)
def test_classes_that_people_take_for_one_are_told(tmp_path, given, told):
    data = understand(save(tmp_path, rows(40, *given)))
    assert f"classes that differ in case, blanks or zeros only, and may be one: {told}" in data.notes


@pytest.mark.parametrize(
    ("given", "told"),
    [((True, 1, False, 0), "'False' and '0'; 'True' and '1'"), (("true", "1", "no"), "'true' and '1'"), ((0, 1), None)],
)
def test_words_of_programs_beside_numbers_are_told(tmp_path, given, told):
    notes = [note for note in understand(save(tmp_path, rows(40, *given))).notes if "may be one" in note]
    assert notes == ([f"classes that may be one, written in two ways: {told}"] if told else [])


def test_a_label_of_validation_that_is_written_otherwise_in_training_is_answered_with_that(tmp_path):
    said = complaint(save(tmp_path, rows(40, "TRUE", "FALSE"), validation=rows(4, True, False)))
    assert said == "row 1 of the validation split has the label 'True', which no training row has, where it is 'TRUE'."


def test_numbers_with_a_comma_for_the_point_are_numbers(tmp_path):
    some = rows(40, *(f"{number},5" for number in range(16)))
    assert "holds 16 different numbers: that is regression" in complaint(
        save(tmp_path, some), label="label", task="text-classification"
    )


def test_a_long_label_is_described_by_its_beginning(tmp_path):
    data = understand(save(tmp_path, rows(40, "x" * 100_000, "good"), validation=rows(4, "good")))
    assert data.described()[2] == f"2 classes: good 50%, {'x' * 59}… 50%"
    assert len(data.task.classes[1]) == 100_000


def test_labels_and_cells_of_any_depth_are_answered(tmp_path):
    deep: object = "x"
    for _ in range(300):
        deep = [deep]
    some = [{**row, "meta": deep} for row in rows(40)]
    assert understand(save(tmp_path, some)).task.classes == ("bad", "good")
    assert "cannot tell which column is the label" in complaint(
        save(tmp_path, [{"text": row["text"], "meta": deep} for row in some])
    )
    assert "holds no single label: row 1" in complaint(save(tmp_path, some), label="meta")
    data = understand(save(tmp_path, rows(40), test=[{"text": "a", "label": deep}]))
    assert "test rows without a text or a known label, left out: 1" in data.notes


@pytest.mark.parametrize("name", ["none", "nan", "NULL", "n/a"])
def test_a_class_may_be_named_like_nothing_and_is_told(tmp_path, name):
    data = understand(save(tmp_path, rows(40, name, "good")))
    assert name in data.task.classes
    assert f"'{name}' is taken for a class, not for a missing label (rows: 20)" in data.notes


def test_an_empty_cell_of_a_csv_is_a_missing_label_and_a_written_none_is_a_class(tmp_path):
    file = tmp_path / "x.csv"
    lines = [f"a film of {number},{'none' if number % 2 else 'good'}" for number in range(40)]
    file.write_text("\n".join(["text,label", *lines]))
    assert understand(str(file)).task.classes == ("good", "none")
    file.write_text("\n".join(["text,label", *lines, "a film,", "a film, "]))
    assert complaint(str(file)) == (
        "column 'label' has no label in 2 of 42 rows of the train split, the first is row 41; "
        "fill them in or leave those rows out."
    )


def test_where_some_rows_have_several_labels_none_may_be_meant(tmp_path):
    some = [{"text": f"a film of {n}", "label": ("dog", "cat;dog", "")[n % 3]} for n in range(30)]
    assert complaint(save(tmp_path, some)) == (
        "column 'label' has no label in 10 of 30 rows of the train split, the first is row 3; if 'cat;dog' is several "
        "labels, and a row may have none: --task multi-label-classification."
    )


@pytest.mark.parametrize("missing", [None, float("nan"), "", "  "])
def test_a_missing_label_is_answered_with_its_row(tmp_path, missing):
    some = [*rows(20), {"text": "a film", "label": missing}, *rows(20), {"text": "a film"}]
    assert complaint(save(tmp_path, some)).startswith(
        "column 'label' has no label in 2 of 42 rows of the train split, the first is row 21;"
    )


def test_a_missing_label_of_parquet_is_answered(tmp_path):
    frame = pd.DataFrame(
        {"text": [f"a film of {n}" for n in range(40)], "label": pd.Series([0, 1] * 20, dtype="Int64")}
    )
    frame.loc[3, "label"] = pd.NA
    frame.to_parquet(tmp_path / "x.parquet")
    assert "in 1 of 40 rows of the train split, the first is row 4;" in complaint(str(tmp_path / "x.parquet"))
    frame.dropna().to_parquet(tmp_path / "x.parquet")
    assert understand(str(tmp_path / "x.parquet")).task.classes == ("0", "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "column 'text' has no text in 1 of 41 rows of the train split, the first is row 41; fill them in or"),
        ("\n", "column 'text' has no text in 1 of 41 rows of the train split, the first is row 41; fill them in or"),
        (float("nan"), "column 'text' has no text in 1 of 41 rows of the train split, the first is row 41; fill them"),
        (5, "column 'text' is no text: row 41 of the train split has 5."),
        (["a", "film"], "column 'text' is no text: row 41 of the train split has ['a', 'film']."),
        ({"en": "x" * 100}, "column 'text' is no text: row 41 of the train split has {'en': 'xxxxx"),
    ],
)
def test_a_row_without_a_text_is_answered(tmp_path, text, said):
    assert complaint(save(tmp_path, [*rows(40), {"text": text, "label": "bad"}])).startswith(said)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("good",), "column 'label' holds one class only, 'good'; there is nothing to learn."),
        (
            (["a", "b"],),
            "column 'label' holds no single label: row 1 of the train split has ['a', 'b']; several for a row are "
            "--task multi-label-classification.",
        ),
        (
            ("['a','b']", "['c']", "plain"),
            "column 'label' holds no single label: row 1 of the train split has the list \"['a','b']\"; several for a "
            "row are --task multi-label-classification.",
        ),
        (({"a": 1},), "column 'label' holds no single label: row 1 of the train split has {'a': 1}."),
        (
            [n / 8 for n in range(17)],
            "column 'label' holds 17 different numbers: that is regression; give --task text-regression.",
        ),
        (
            [f"{n / 8}e-05" for n in range(1, 17)],
            "column 'label' holds 16 different numbers: that is regression; give --task text-regression.",
        ),
        (
            range(100, 140),
            "column 'label' holds 40 different values in 40 rows, too many to be classes; "
            "give another column as --label.",
        ),
        (
            range(10),
            "40 rows of 10 classes are too few to split a validation set off; give more, or a validation file.",
        ),
    ],
)
def test_labels_that_are_no_classes_are_answered(tmp_path, labels, said):
    some = rows(40, *labels) if said[0] == "c" else rows(12, *labels)
    data = save(tmp_path, some)
    assert complaint(data, label="label", task="text-classification").replace("12 rows", "40 rows") == said


def test_few_fractions_are_classes(tmp_path):
    assert understand(save(tmp_path, rows(40, 0.5, 1.0, 1.5))).task.classes == ("0.5", "1", "1.5")


def test_names_among_numbers_are_classes(tmp_path):
    labels = [*(n / 8 for n in range(17)), "none"]
    assert len(understand(save(tmp_path, rows(60, *labels))).task.classes) == 18


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_too_few_rows_for_a_validation_split_are_answered(tmp_path, count):
    said = complaint(save(tmp_path, rows(count)), text=("text",), label="label")
    assert "there is nothing to learn" in said or "too few to split a validation set off" in said


def test_as_few_rows_as_can_be_split_are_split(tmp_path):
    data = understand(save(tmp_path, rows(6)))
    assert {name: sorted(split.targets.values) for name, split in data.splits.items()} == {
        "train": [0, 0, 1, 1],
        "validation": [0, 1],
    }


def test_a_class_of_one_row_stays_in_training_and_is_told(tmp_path):
    data = understand(save(tmp_path, [*rows(40), {"text": "a rare film", "label": "rare"}]))
    assert texts(data, "train") >= {"a rare film"}
    assert data.notes[1] == "classes of a single row, which stays in training: 1"


def test_a_label_of_validation_that_training_has_not_is_answered(tmp_path):
    said = complaint(save(tmp_path, rows(40), validation=[*rows(3), {"text": "a film", "label": "so-so"}]))
    assert said == "row 4 of the validation split has the label 'so-so', which no training row has."


def test_a_fault_of_the_validation_split_is_answered(tmp_path):
    said = complaint(save(tmp_path, rows(40), validation=[{"text": "a film", "labels": "bad"}]))
    assert said == "the validation split has no column 'label'; it has text, labels."
    said = complaint(save(tmp_path, rows(40), validation=[*rows(3), {"text": "a film", "label": None}]))
    assert "has no label in 1 of 4 rows of the validation split, the first is row 4;" in said


def test_a_column_that_the_validation_split_has_twice_is_answered(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"a film of {n},{n % 2}\n" for n in range(40)))
    (tmp_path / "validation.csv").write_text("text,label,label\na film,1,0\n")
    (tmp_path / "test.csv").write_text("text,text,label\na film,a film,0\n")
    said = complaint(str(tmp_path))
    assert said == "the validation split has 2 columns 'label'; it has text, label, label."
    (tmp_path / "validation.csv").unlink()
    assert set(understand(str(tmp_path)).splits) == {"train", "validation"}


def test_an_unknown_task_is_answered_with_the_nearest():
    assert "unknown task 'classification'." in complaint("nowhere", task="classification")


def test_half_characters_of_json_do_not_stop_a_search(tmp_path):
    some = [*rows(40), {"text": "a film \ud83d", "label": "good"}]
    data = understand(save(tmp_path, some, validation=rows(4)))
    assert data.splits["train"].inputs[-1] == ("a film ?",)


def test_labels_are_whole_numbers_that_torch_takes(tmp_path):
    assert understand(save(tmp_path, rows(40))).splits["train"].targets.values.dtype == np.int64


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data sets")
@pytest.mark.parametrize(
    ("name", "text", "label", "classes", "counts"),
    [
        ("sst2", ("sentence",), "label", 2, (6920, 872, 1821)),
        ("mrpc", ("sentence1", "sentence2"), "label", 2, (3576, 500, 1725)),
        ("sick-nli", ("premise", "hypothesis"), "label", 3, (4500, 500, 4927)),
        ("clinc150", ("text",), "intent", 150, (15000, 3000, 4500)),
    ],
)
def test_real_data_sets_are_understood(name, text, label, classes, counts):
    data = understand(str(SHARED / name))
    assert data.task.name == "text-classification"
    assert data.columns == {"label": (label,), "text": text}
    assert len(data.task.classes) == classes
    assert tuple(len(data.splits[split]) for split in ("train", "validation", "test")) == counts
    assert not any("left out" in note or "split off" in note for note in data.notes)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data sets")
def test_real_data_sets_of_other_tasks_are_refused():
    assert complaint(str(SHARED / "sick-similarity"), task="text-classification").startswith(
        "column 'score' holds 125 different numbers: that is"
    )
    assert complaint(str(SHARED / "wnut17"), task="text-classification").startswith(
        "cannot tell which column is the label"
    )
    said = complaint(str(SHARED / "wnut17"), text=("tokens",), label="tags")
    assert said.startswith("column 'tokens' holds no text, but values such as ['@paulwalk', 'It',")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data sets")
def test_a_validation_split_of_real_data_keeps_the_shares_of_its_classes():
    data = understand(str(SHARED / "clinc150" / "train.csv"), seed=1)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 13_500, "validation": 1500}
    assert set(np.bincount(data.splits["validation"].targets.values)) == {10}
