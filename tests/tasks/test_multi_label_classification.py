"""Several classes of a text: how they are read, what metrics mean, and a whole search for them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

import autopeft
from autopeft.data.store import Column
from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.multi_label_classification import MultiLabelClassification
from autopeft.tasks.named import guess_task
from autopeft.tasks.understanding import understand
from autopeft.trial import Status
from tests.user import BAD, GOOD, user_folder

TASK = MultiLabelClassification(("text",), tuple("abcde"))
SETS = [["a"], ["a", "b"], [], ["c", "b"], ["a"]] * 8


def saved(folder: Path, labels: list, split: str = "train", **more: list) -> str:
    rows = [{"text": f"a film of {n}", "labels": cell} for n, cell in enumerate(labels)]
    for name, values in more.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def complaint(data: str, task: str = "multi-label-classification", **columns: tuple[str, ...]) -> str:
    with pytest.raises(AutopeftError) as caught:
        understand(data, columns, task)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def drawn(rows: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are right more often than not, and truths."""
    random = np.random.default_rng(seed)
    truths = random.random((rows, classes)) < np.linspace(0.2, 0.6, classes)
    return np.where(random.random(truths.shape) < 0.8, truths, random.random(truths.shape) < 0.4), truths


def statistics(answers: np.ndarray, truths: np.ndarray) -> np.ndarray:
    head = MultiLabelClassification.sized(answers.shape[1]).new_head(4, Training())
    output = torch.from_numpy(np.where(answers, 0.3, -2.0))
    return head.statistics(output, {"labels": torch.from_numpy(truths.astype(np.uint8))})


def test_sets_of_classes_are_understood_and_described(tmp_path):
    saved(tmp_path, SETS)
    data = understand(saved(tmp_path, [["b"], ["c", "a"], []], "validation"))
    assert data.task == MultiLabelClassification(("text",), ("a", "b", "c"))
    assert data.columns == {"labels": ("labels",), "text": ("text",)}
    assert data.splits["train"].targets.values[:4].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert data.splits["validation"].targets.values.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert data.described()[:4] == (
        "multi-label-classification: text -> labels",
        "rows: 40 train, 3 validation",
        "3 classes: a 60%, b 40%, c 20%",
        "classes of a row: 1.2 on average, at most 2; none: 20%",
    )


@pytest.mark.parametrize("written", [";".join, json.dumps, str])
def test_sets_may_be_written_into_a_csv(tmp_path, written):
    rows = pd.DataFrame({"text": [f"a film of {n}" for n in range(40)], "genres": map(written, SETS)})
    rows.to_csv(tmp_path / "train.csv", index=False)
    data = understand(str(tmp_path / "train.csv"), {"labels": ("genres",)}, "multi_label_classification")
    assert data.task.classes == ("a", "b", "c")
    counts = sum(split.targets.values.sum(0, dtype=int) for split in data.splits.values())
    assert counts.tolist() == [24, 16, 8]


def test_another_separator_is_told(tmp_path):
    saved(tmp_path, [", ".join(each) for each in SETS])
    saved(tmp_path, ["a,c", ["b"], '["a"]', ""], "test")
    data = understand(saved(tmp_path, ["b,a", ""], "validation"), task="multi-label-classification", separator=",")
    assert data.task.classes == ("a", "b", "c")
    assert data.splits["train"].targets.values[3].tolist() == [0, 1, 1]
    assert data.splits["test"].targets.values.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert not any("one class" in note for note in data.notes)


@pytest.mark.parametrize(
    ("separator", "labels", "task", "said"),
    [
        ("", ("labels",), "multi-label-classification", "separator must be what stands between labels, such as ','"),
        (
            ",",
            ("one", "two"),
            "auto",
            "',' separates several labels in one cell, but these are 2 columns of 0 and 1.",
        ),
        (
            ",",
            (),
            "text-classification",
            "a task 'text-classification' has no such column; give --task multi-label-classification.",
        ),
    ],
)
def test_a_separator_without_labels_to_separate_is_answered(tmp_path, separator, labels, task, said):
    folder = saved(tmp_path, ["a", "b"] * 20, one=[0, 1] * 20, two=[0] * 40)
    with pytest.raises(AutopeftError) as caught:
        understand(folder, {"labels": labels} if labels else {}, task, separator=separator)
    assert said in str(caught.value)


def test_each_class_may_have_a_column_of_its_own(tmp_path):
    one, other = [n % 2 for n in range(40)], [n % 3 == 0 for n in range(40)]
    folder = saved(tmp_path, SETS, toxic=one, rude=other, never=[0.0] * 40)
    data = understand(folder, {"labels": ("toxic", "rude", "never")})
    assert data.task.classes == ("toxic", "rude", "never")
    assert data.described()[0] == "multi-label-classification: text -> toxic + rude + never"
    assert "classes that no training row has: never" in data.notes
    whole = np.concatenate([split.targets.values for split in data.splits.values()])
    assert whole.sum(0, dtype=int).tolist() == [20, 14, 0]


@pytest.mark.parametrize(
    "written", [list, lambda row: [*map(float, row)], lambda row: [*map(bool, row)], json.dumps, str]
)
@pytest.mark.parametrize("task", ["auto", "multi-label-classification"])
def test_lists_of_0_and_1_are_a_place_for_each_class(tmp_path, written, task):
    train = [written([int(n % 2 == 0), int(n % 3 == 0), 0, int(n % 5 == 0)]) for n in range(40)]
    saved(tmp_path, [[1, 0], [1, 0, 0, 0], [2, 0, 0, 0], None], "test")
    saved(tmp_path, [written([0, 1, 1, 0])] * 3, "validation")
    data = understand(saved(tmp_path, train), {}, task)
    assert data.task.classes == ("0", "1", "2", "3")
    assert data.splits["train"].targets.values[:3].tolist() == [[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert data.splits["validation"].targets.values[0].tolist() == [0, 1, 1, 0]
    assert data.splits["test"].targets.values.tolist() == [[1, 0, 0, 0]]
    assert (
        "column 'labels' holds 4 numbers for each row, 0 or 1: the classes are called 0 to 3 by their places; give one "
        "column of 0 and 1 for each class, called like it, to name them"
    ) in data.notes
    assert "classes that no training row has: 2" in data.notes


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_list_of_0_and_1_of_another_length_is_answered(tmp_path, split):
    train = [[n % 2, 0, 1] for n in range(40)]
    saved(tmp_path, train)
    said = complaint(saved(tmp_path, [*train, [0, 1]], split))
    assert said == (
        f"row 41 of the {split} split has [0, 1] in column 'labels', where others have a list of 3 numbers, each 0 or "
        "1."
    )


@pytest.mark.parametrize(
    "labels",
    [[[0], [1]], [[0], [1], [0, 1], []], [["0", "1"], ["0"]], [["0", "1", "1"], ["0", "0", "0"]], [[0, 1], [0, 2]]],
)
def test_other_lists_of_numbers_are_of_names(tmp_path, labels):
    data = understand(saved(tmp_path, labels * 20), {}, "multi-label-classification")
    assert set(data.task.classes) == {str(name) for each in labels for name in each}
    assert not any("by their places" in note for note in data.notes)


def test_a_validation_split_keeps_the_shares_of_rare_classes(tmp_path):
    data = understand(saved(tmp_path, [[*("ab" if n % 2 else "a"), *("r" * (n % 20 == 0))] for n in range(120)]))
    assert "validation: split off the training data, stratified, seed 0" in data.notes
    assert [split.targets.values[:, 2].sum() for split in data.splits.values()] == [4, 2]


def test_rows_are_drawn_by_their_rarest_class():
    rows = Column(np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype=np.uint8))
    assert TASK.strata(rows).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("columns", "fits"),
    [
        ({"labels": SETS}, True),
        ({"topics": [json.dumps(each) for each in SETS]}, True),
        ({"whatever": SETS}, True),
        ({"labels": [*SETS[:-1], None]}, True),
        ({"labels": ["a;b"] * 40}, False),
        ({"labels": ["a", "b"] * 20}, False),
        ({"labels": [[]] * 40}, False),
        ({"labels": [["a"], "b"] * 20}, False),
        ({"labels": [[{"start": 0, "end": 1, "label": "PER"}]] * 40}, False),
        ({"labels": SETS, "tokens": SETS}, False),
    ],
)
def test_lists_of_names_are_meant_for_several_labels(columns, fits):
    frame = pd.DataFrame({"text": [f"a film of {n}" for n in range(40)], **columns}, dtype=object)
    assert (guess_task(frame, {}) is MultiLabelClassification) == fits
    assert not MultiLabelClassification.fits(frame, {"label": ("text",)})
    assert guess_task(frame, {"labels": ("text",)}) is MultiLabelClassification


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([None], "column 'labels' has no labels in 1 of 41 rows of the train split, the first is row 41; fill them in"),
        (
            [["a", None]],
            "row 41 of the train split has no labels that can be read: ['a', None] holds None, which is no",
        ),
        ([[["a"]]], "row 41 of the train split has no labels that can be read: [['a']] holds ['a'], which is no name."),
        ([{"a": 1}], "row 41 of the train split has no labels that can be read: {'a': 1} is no list"),
        (["[a"], "row 41 of the train split has no labels that can be read: '[a' is no list"),
    ],
)
def test_a_row_of_which_classes_cannot_be_told_is_answered(tmp_path, labels, said):
    assert said in complaint(saved(tmp_path, [*SETS, *labels]))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([["b", "a"]] * 40, "column 'labels': every row has ['a', 'b']; there is nothing to learn."),
        ([[]] * 40, "column 'labels': every row has no class; there is nothing to learn."),
        ([n / 8 for n in range(40)], "40 different numbers are regression; give --task text-regression."),
        (
            [[f"tag {n}"] for n in range(40)],
            "40 different names in 40 rows, such as 'tag 0', are too many to be classes",
        ),
        (SETS[:6], "6 rows of 4 classes are too few to split a validation set off"),
    ],
)
def test_what_cannot_be_learned_is_answered(tmp_path, labels, said):
    assert said in complaint(saved(tmp_path, labels), labels=("labels",))


def test_another_number_than_0_and_1_is_answered_with_its_row(tmp_path):
    folder = saved(tmp_path, SETS, toxic=[0, 1] * 20, rude=[*[0] * 39, 2])
    said = complaint(folder, "auto", labels=("toxic", "rude"))
    assert said == (
        "row 40 of the train split has no labels that can be read: in column 'rude' stands 2, neither 0 nor 1."
    )


def test_a_class_that_no_training_row_has_is_answered(tmp_path):
    saved(tmp_path, SETS)
    said = complaint(saved(tmp_path, [["a"], ["b", "A"]], "validation"))
    assert said == "row 2 of the validation split has the label 'A', which no training row has, where it is 'a'."


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["a", "b"] * 20, "every row has one class; --task text-classification answers with one for each"),
        (["a", "a, b"] * 20, "'a, b' is one class; if it is several, give --separator ,"),
        (["a;none", "none"] * 20, "'none' is taken for a class, not for a missing label (rows: 40)"),
    ],
)
def test_what_may_be_meant_otherwise_is_told(tmp_path, labels, note):
    assert note in understand(saved(tmp_path, labels), task="multi-label-classification").notes


def test_lists_as_classes_name_this_task(tmp_path):
    said = complaint(saved(tmp_path, SETS), "text-classification", label=("labels",))
    assert said == (
        "column 'labels' holds no single label: row 1 of the train split has ['a']; several for a row are "
        "--task multi-label-classification."
    )


def test_test_rows_of_unknown_classes_are_left_out(tmp_path):
    saved(tmp_path, SETS)
    data = understand(saved(tmp_path, [["a"], ["z"], None, [], "b;c", {}], "test"))
    assert data.splits["test"].targets.values.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert "test rows without a text or a known set of labels, left out: 3" in data.notes


def test_answers_are_the_classes_whose_logit_is_positive_and_scores_their_probabilities():
    output = torch.tensor([[1.0, -1.0, 0.0, 2.0, -9.0], [-1.0] * 5])
    assert TASK.answers(output, ()) == [("a", "d"), ()]
    assert TASK.scores(output)[0] == pytest.approx({"a": 0.731, "b": 0.269, "c": 0.5, "d": 0.881, "e": 0.0}, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("f1_micro", lambda truths, answers: f1_score(truths, answers, average="micro", zero_division=0)),
        ("f1_macro", lambda truths, answers: f1_score(truths, answers, average="macro", zero_division=0)),
        ("subset_accuracy", accuracy_score),
    ],
)
def test_metrics_are_those_of_scikit_learn(name, value):
    metric = TASK.metric(name)
    answers, truths = drawn(400)
    rows = statistics(answers, truths)
    assert metric.of(rows) == pytest.approx(value(truths, answers))
    for classes in (1, 2, 3):
        some, others = drawn(30, classes)
        some[:, 0] = others[:, 0] = False
        if classes > 1:
            assert metric.of(statistics(some, others)) == pytest.approx(value(others, some))


def test_a_loss_is_the_sum_over_classes_and_counts_rows():
    head = TASK.new_head(4, Training())
    batch = {"labels": torch.tensor([[1, 0, 0, 0, 1]] * 3, dtype=torch.uint8)}
    assert float(head.loss(torch.zeros(3, 5), batch)) == pytest.approx(15 * np.log(2), rel=1e-5)
    assert head.count(batch) == 3


def test_two_outputs_diverge_as_the_distributions_of_every_class_do():
    one, other = torch.tensor([[0.3, -1.0]]), torch.tensor([[-0.5, 2.0]])
    p, q = one.sigmoid(), other.sigmoid()
    expected = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).sum()
    assert float(TASK.new_head(4, Training()).divergence(one, other, {})) == pytest.approx(float(expected), rel=1e-5)


def test_the_best_constant_is_the_most_frequent_set():
    class Train:
        targets = Column(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]], dtype=np.uint8))

    assert TASK.best_constant(Train()).tolist() == [1.0, -1.0, 1.0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and reviews of which single words tell opinion and kind; every fourth says neither."""
    folder = user_folder(tmp_path_factory.mktemp("several"))
    rows = []
    for number in range(160):
        word = (*GOOD, *BAD)[number % 6]
        labels = ["positive"] * (number % 6 < 3) + ["film"] * (number % 4 < 2)
        rows.append({"text": f"the {('film', 'book')[number % 4 > 1]} w{number % 59} was {word}", "labels": labels})
    (folder / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_whole_search_learns_sets_and_its_winner_gives_them(place):
    search = autopeft.search(
        model=str(place / "model"),
        data=str(place / "several.jsonl"),
        space="quick",
        trials=3,
        max_length=16,
        workers=0,
        storage=f"sqlite:///{place}/searches.db",
        folder=str(place / "runs"),
    )
    assert search.record.facts["data"][0] == "multi-label-classification: text -> labels"
    assert search.record.baselines["linear probe"].score > 0.9
    assert {*search.record.baselines} == {"linear probe", "most frequent set"}
    assert any(trial.status is Status.FINISHED for trial in search.trials)
    search.select().save(place / "winner")
    trained = autopeft.load(place / "winner")
    assert isinstance(trained.task, MultiLabelClassification)
    texts = ["the film w1 was good", "the book w1 was awful"]
    assert trained.predict(texts) == [("film", "positive"), ()]
    assert trained.predict(texts[0]) == ("film", "positive")
    assert all(score > 0.5 for score in trained.scores(texts[0]).values())
