"""A validation split where the data has none: stratified, seeded, pure."""

import numpy as np

SHARE, LEAST, MOST = 0.1, 100, 2000


def validation_size(rows: int, classes: int) -> int:
    """A tenth of the rows, at least 100 and at most 2,000, never more than a third, and at least one for each class."""
    return max(classes, min(max(round(SHARE * rows), LEAST), MOST, rows // 3))


def split_off(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (training, validation), both sorted. Rows of a class that occurs once stay in training.

    `labels`: (rows,) integer classes.
    """
    from sklearn.model_selection import train_test_split  # takes half a second, and workers never split

    values, counts = np.unique(labels, return_counts=True)
    alone = np.isin(labels, values[counts < 2])
    usual = np.flatnonzero(~alone)
    classes = int((counts >= 2).sum())
    size = min(validation_size(len(labels), classes), len(usual) - classes)
    train, validation = train_test_split(usual, test_size=size, random_state=seed, stratify=labels[usual])
    return np.sort(np.concatenate([train, np.flatnonzero(alone)])), np.sort(validation)
