import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from autopeft.tasks.heads import ClassificationHead
from autopeft.tasks.linear_probe import PROBE_C, best_regularisation, feature_scales, fit_classes


def clusters(classes: int, rows: int = 200, width: int = 12, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scales, around one centre for each class."""
    rng = np.random.default_rng(classes)
    labels = rng.permutation(np.arange(rows) % classes)
    centres = rng.normal(size=(classes, width))
    scales = 10.0 ** rng.uniform(-0.8, 0.8, size=width)
    features = (centres[labels] + spread * rng.normal(size=(rows, width))) * scales + 5 * scales
    return features.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_head_from_a_probe_predicts_what_the_probe_of_sklearn_predicts(classes):
    features, labels = clusters(classes, rows=500)
    features, unseen, labels = features[:200], features[200:], labels[:200]
    head = ClassificationHead(features.shape[1], classes)
    fit_classes(head, features, labels)
    best = best_regularisation(StandardScaler().fit_transform(features), labels)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=best, max_iter=300, tol=1e-3))
    probe.fit(features, labels)
    probabilities = (
        torch.nn.functional.linear(torch.from_numpy(unseen), head.weight, head.bias).softmax(-1).detach().numpy()
    )
    assert np.allclose(probabilities, probe.predict_proba(unseen), atol=1e-3)
    assert len(set(probabilities.argmax(1))) == classes


def test_noisy_features_are_regularised_and_of_equally_good_strengths_the_strongest_is_taken():
    labels = np.arange(400) % 2
    features = np.random.default_rng(0).normal(size=(400, 300))
    features[:, 0] += 3 * labels
    assert best_regularisation(features, labels) < PROBE_C[-1]
    assert best_regularisation(features[:, :1] + 100 * labels[:, None], labels) == PROBE_C[0]


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 0, 1], [0, 1, 2, 3]])
def test_a_handful_of_rows_is_enough_for_a_probe(labels):
    features = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    head = ClassificationHead(4, max(labels) + 1)
    fit_classes(head, features, np.array(labels))
    assert torch.isfinite(head.weight).all()


@pytest.mark.parametrize("rounding", [0.0, 1e-9, 1e-30])
def test_a_feature_that_never_varies_but_for_rounding_gets_no_weight_to_speak_of(rounding):
    features, labels = clusters(2)
    features = features / features.std(0)
    features[:, 3] = 0.5 + rounding * np.random.default_rng(0).normal(size=len(features))
    head = ClassificationHead(features.shape[1], 2)
    fit_classes(head, features, labels)
    assert head.weight[:, 3].abs().max() < 1e-3 * head.weight.abs().max()
    assert head.weight.abs().max() < 100
    assert torch.isfinite(head.bias).all()


def test_scales_are_deviations_with_a_floor():
    features = np.random.default_rng(0).normal(size=(100, 3)) * [1e-12, 1.0, 50.0]
    scales = feature_scales(features)
    assert np.allclose(scales[1:], features[:, 1:].std(0))
    assert scales[0] == pytest.approx(0.01 * scales[1])
    assert feature_scales(np.zeros((4, 2))).tolist() == [1.0, 1.0]


def test_a_probe_that_does_not_converge_is_a_probe_without_a_warning():
    features, labels = clusters(40, rows=400, width=300, spread=30.0)
    head = ClassificationHead(300, 40)
    fit_classes(head, features, labels)
    assert torch.isfinite(head.weight).all()


def test_a_class_that_no_row_has_is_never_answered():
    features, labels = clusters(3)
    head = ClassificationHead(12, 5)
    fit_classes(head, features, np.where(labels == 2, 4, labels))
    assert set(head_answers(head, features)) == {0, 1, 4}
    two = ClassificationHead(12, 5)
    fit_classes(two, features, np.where(labels == 0, 1, 3))
    assert set(head_answers(two, features)) == {1, 3}


def head_answers(head: ClassificationHead, features: np.ndarray) -> list[int]:
    return torch.nn.functional.linear(torch.from_numpy(features), head.weight, head.bias).argmax(-1).tolist()


def test_where_all_rows_have_one_class_it_is_the_answer_to_everything():
    features, _ = clusters(3)
    head = ClassificationHead(features.shape[1], 3)
    fit_classes(head, features, np.full(len(features), 2))
    logits = torch.nn.functional.linear(torch.from_numpy(features), head.weight, head.bias)
    assert set(logits.argmax(1).tolist()) == {2}
