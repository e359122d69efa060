"""Numbers of texts: how they are read, what errors and metrics mean, and a whole search for them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import autopeft
from autopeft.data.store import Column
from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.named import guess_task
from autopeft.tasks.text_regression import TextRegression
from autopeft.tasks.understanding import understand
from autopeft.trial import Status
from tests.user import BAD, GOOD, user_folder

TASK = TextRegression(("text",), 100.0, 20.0)
SCORES = [n * 7 % 40 / 8 for n in range(40)]


def saved(folder: Path, scores: list, split: str = "train", **more: list) -> str:
    rows = [{"text": f"a film of {n}", "score": score} for n, score in enumerate(scores)]
    for name, values in more.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def complaint(data: str, task: str = "text-regression", **columns: tuple[str, ...]) -> str:
    with pytest.raises(AutopeftError) as caught:
        understand(data, columns, task)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def statistics(answers: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Of numbers in the data's unit."""
    output, labels = (torch.tensor((each - TASK.mean) / TASK.scale)[:, None] for each in (answers, truths))
    return TASK.new_head(4, Training()).statistics(output, {"labels": labels})


def spread(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truths = random.normal(100, 20, rows)
    return 40 + 0.6 * truths + random.standard_t(6, rows) * 9, truths


def test_numbers_are_understood_and_described(tmp_path):
    saved(tmp_path, SCORES)
    data = understand(saved(tmp_path, SCORES[:8], "validation"))
    assert data.task == TextRegression(("text",), np.mean(SCORES), np.std(SCORES))
    assert data.columns == {"label": ("score",), "text": ("text",)}
    targets = data.splits["train"].targets.values
    assert targets.shape == (40, 1)
    assert targets.dtype == np.float32
    assert targets.mean() == pytest.approx(0, abs=1e-6)
    assert targets.std() == pytest.approx(1)
    assert data.described()[:3] == (
        "text-regression: text -> score",
        "rows: 40 train, 8 validation",
        "numbers from 0 to 4.875: mean 2.438, standard deviation 1.443",
    )


def test_a_text_in_two_splits_is_told_with_whether_its_number_is_another(tmp_path):
    saved(tmp_path, SCORES)
    data = understand(saved(tmp_path, [SCORES[0], SCORES[1] + 1], "validation"))
    (note,) = [note for note in data.notes if "both in" in note]
    assert note == "texts both in training and in validation: 2, of which 1 with another number"


def test_validation_is_in_the_units_of_training_and_may_be_split_off(tmp_path):
    data = understand(saved(tmp_path, SCORES))
    assert len(data.splits["validation"]) == 13
    assert data.notes == ("validation: split off the training data, seed 0",)
    both = np.concatenate([data.splits[name].targets.values[:, 0] for name in ("train", "validation")])
    assert sorted(both * data.task.scale + data.task.mean) == pytest.approx(sorted(SCORES), abs=1e-5)


def test_pairs_have_numbers_too(tmp_path):
    rows = [f"a man {n},a boy {n},{score}" for n, score in enumerate(SCORES)]
    (tmp_path / "train.csv").write_text("\n".join(["sentence1,sentence2,score", *rows]))
    data = understand(str(tmp_path))
    assert data.task.text == ("sentence1", "sentence2")
    assert data.splits["train"].inputs[0][0][:6] + data.splits["train"].inputs[0][1][:6] == "a man a boy "


@pytest.mark.parametrize(
    ("columns", "fits"),
    [
        ({"score": SCORES}, True),
        ({"label": SCORES}, True),
        ({"label": [str(score) for score in SCORES]}, True),
        ({"sureness": SCORES}, True),
        ({"score": [*SCORES[:-1], ""]}, True),
        ({"label": ["good", "bad"] * 20, "score": SCORES}, False),
        ({"mood": ["good", "bad"] * 20, "score": SCORES}, False),
        ({"score": [0.5, 1.5] * 20}, False),
        ({"score": range(40)}, False),
        ({"label": [["good"], []] * 20}, False),
    ],
)
def test_many_numbers_with_fractions_are_meant_for_regression(columns, fits):
    frame = pd.DataFrame({"text": [f"a film of {n}" for n in range(40)], **columns}, dtype=object)
    assert (guess_task(frame, {}) is TextRegression) == fits
    assert not TextRegression.fits(frame, {"labels": ("score",)})


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (None, "column 'score' has no number in 1 of 41 rows of the train split, the first is row 41; fill them in"),
        ("  ", "column 'score' has no number in 1 of 41 rows of the train split, the first is row 41; fill them in"),
        ("n/a", "column 'score' holds no number: row 41 of the train split has 'n/a'; numbers are finite"),
        ("3,5", "has '3,5'; numbers are finite, and written as in 1234.5, without units or separators of thousands."),
        ("1,234.5", "row 41 of the train split has '1,234.5'"),
        ("NaN", "row 41 of the train split has 'NaN'"),
        ("-inf", "row 41 of the train split has '-inf'"),
        ("1e400", "row 41 of the train split has '1e400'"),
        (True, "row 41 of the train split has True"),
        ([3.5], "row 41 of the train split has [3.5]"),
        (1e200, "column 'score' holds numbers from 0 to 1e+200, too far apart or too close to be learned"),
    ],
)
def test_a_row_without_a_number_is_answered(tmp_path, score, said):
    assert said in complaint(saved(tmp_path, [*SCORES, score]))


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([3.25] * 40, "column 'score' holds 3.25 in every row; there is nothing to learn."),
        ([0.1, 1e-300 + 0.1] * 20, "column 'score' holds 0.1 in every row; there is nothing to learn."),
        ([0, 1e-300] * 20, "too close to be learned; give them in another unit."),
        (
            ["good", "bad"] * 20,
            "column 'score' holds no number: row 1 of the train split has 'good'; give --task text-classification "
            "where these are classes.",
        ),
        ([f"{n},5" for n in range(40)], "row 1 of the train split has '0,5'; numbers are finite, and written as in"),
    ],
)
def test_what_cannot_be_learned_is_answered(tmp_path, scores, said):
    assert said in complaint(saved(tmp_path, scores), label=("score",))


def test_a_number_beyond_all_others_is_answered(tmp_path):
    saved(tmp_path, SCORES)
    said = complaint(saved(tmp_path, [1.5, 1e30], "validation"))
    assert said == (
        "row 2 of the validation split has 1e+30 in column 'score', too far from the training rows (mean 2.438, "
        "standard deviation 1.443) to be judged."
    )


def test_one_number_beyond_which_all_others_are_the_same_is_answered(tmp_path):
    some = [1 + n % 5 for n in range(39)]
    assert complaint(saved(tmp_path, [*some[:6], 1e30, *some[6:]])) == (
        "row 7 of the train split has 1e+30 in column 'score', so far from others that these, half of them from 2 to "
        "4, cannot be told apart; correct it, or leave it out."
    )
    data = understand(saved(tmp_path, [*[0] * 39, 1e30]), task="text-regression")
    assert data.task.mean == 1e30 / 40


def test_numbers_as_classes_name_this_task(tmp_path):
    said = complaint(saved(tmp_path, SCORES), "text-classification", label=("score",))
    assert said == "column 'score' holds 40 different numbers: that is regression; give --task text-regression."


def test_few_numbers_can_be_learned_but_are_told_of(tmp_path):
    data = understand(saved(tmp_path, [1, 2, 3, 5] * 10), task="regression")
    assert data.notes[0] == "different numbers: 4; as classes they are --task text-classification"


def test_test_rows_without_a_number_are_left_out(tmp_path):
    saved(tmp_path, SCORES)
    data = understand(saved(tmp_path, [1.5, None, "", "?", "1e306", 2], "test"))
    assert len(data.splits["test"]) == 2
    assert "test rows without a text or a known number, left out: 4" in data.notes


def test_the_same_rows_in_another_unit_are_other_data(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "ten").mkdir()
    one = understand(saved(tmp_path / "one", SCORES))
    ten = understand(saved(tmp_path / "ten", [10 * score for score in SCORES]))
    assert one.fingerprint != ten.fingerprint


def test_answers_are_in_the_unit_of_the_data():
    assert TASK.answers(torch.tensor([[-1.0], [0.0], [0.5]]), ()) == [80.0, 100.0, 110.0]
    with pytest.raises(AutopeftError, match="gives no scores beside its answers"):
        TASK.scores(torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pearson", lambda truths, answers: np.corrcoef(truths, answers)[0, 1]),
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
        ("r2", r2_score),
        ("spearman", lambda truths, answers: spearmanr(truths, answers).statistic),
    ],
)
def test_metrics_are_those_of_scikit_learn_and_scipy(name, value):
    metric, rows = TASK.metric(name), statistics(*spread(400))
    answers, truths = spread(400)
    assert metric.of(rows) == pytest.approx(value(truths, answers))
    assert metric.higher_is_better == (name not in ("rmse", "mae"))
    assert metric.ideal == (1.0 if metric.higher_is_better else 0.0)


def test_ties_share_their_rank():
    answers, truths = np.array([1.0, 2, 2, 3, 3, 3]), np.array([2.0, 2, 1, 4, 4, 5])
    expected = spearmanr(answers, truths).statistic
    assert TASK.metric("spearman").of(statistics(answers, truths)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "truths", "scores"),
    [
        ([100.0] * 4, [90.0, 100, 110, 100], {"pearson": 0, "spearman": 0, "r2": 0, "mae": 5}),
        ([90.0, 100, 110, 100], [100.0] * 4, {"pearson": 0, "spearman": 0, "r2": 0, "mae": 5}),
        ([100.0] * 4, [100.0] * 4, {"pearson": 0, "spearman": 0, "r2": 1, "rmse": 0, "mae": 0}),
        ([90.0, 100, 110, 100], [90.0, 100, 110, 100], {"pearson": 1, "spearman": 1, "r2": 1, "rmse": 0}),
        ([90.0], [100.0], {"pearson": 0, "spearman": 0, "r2": 0, "rmse": 10}),
    ],
)
def test_constant_answers_and_constant_numbers_have_scores(answers, truths, scores):
    rows = statistics(np.array(answers), np.array(truths))
    for name, score in scores.items():
        metric = TASK.metric(name)
        assert metric.of(rows) == pytest.approx(score, abs=1e-9)
        if len(rows) > 1:
            assert np.isfinite(metric.values(rows)).all()
            assert np.isfinite(metric.error(rows))


def test_the_best_constant_is_the_mean():
    class Train:
        targets = Column(np.array([[-1.0], [2.0]], dtype=np.float32))

    assert TASK.best_constant(Train()).tolist() == [0.5]


def test_two_outputs_diverge_by_half_their_squared_difference():
    head = TASK.new_head(4, Training())
    assert head.divergence(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.0]]), {}) == 2.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and reviews with stars that single words tell, with a little noise."""
    folder = user_folder(tmp_path_factory.mktemp("numbers"))
    random = np.random.default_rng(0)
    rows = []
    for number in range(150):
        word = (*GOOD, *BAD)[number % 6]
        stars = 1000 + 100 * (number % 6) + random.normal(0, 20)
        rows.append({"text": f"the film w{number % 60} was {word} w{number // 2 % 50}", "stars": round(stars, 2)})
    pd.DataFrame(rows).to_csv(folder / "stars.csv", index=False)
    return folder


def test_a_whole_search_learns_numbers_and_its_winner_gives_them_in_their_unit(place):
    search = autopeft.search(
        model=str(place / "model"),
        data=str(place / "stars.csv"),
        space="quick",
        trials=3,
        max_length=16,
        workers=0,
        storage=f"sqlite:///{place}/searches.db",
        folder=str(place / "runs"),
    )
    assert search.record.facts["data"][0] == "text-regression: text -> stars"
    assert search.record.baselines["mean"].score == 0
    assert search.record.baselines["linear probe"].score > 0.8
    finished = [trial for trial in search.trials if trial.status is Status.FINISHED]
    assert finished
    best = search.select()
    best.save(place / "winner")
    trained = autopeft.load(place / "winner")
    low, high = trained.predict(["the film w1 was good w2", "the film w1 was awful w2"])
    assert 900 < low < high < 1700
    assert trained.predict("the film w1 was good w2") == pytest.approx(low, rel=1e-5)
    assert isinstance(trained.task, TextRegression)
