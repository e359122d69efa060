"""A search by what mistakes cost you: a story of business that is missed costs ten, any other mistake one.

python examples/own_metric.py
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import autopeft
from autopeft.data.demo import demo_data, demo_model


def cost(expected: Sequence[str], predicted: Sequence[str]) -> NDArray[np.float64]:
    """One number for each row; their mean is the score."""
    dear = np.where(np.asarray(expected) == "business", 10.0, 1.0)
    return np.where(np.asarray(expected) == np.asarray(predicted), 0.0, dear)


cost.greater_is_better = False  # type: ignore[attr-defined]


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        search = autopeft.search(
            model=str(demo_model()),
            data=str(demo_data(folder)),
            space="quick",
            metric=cost,
            max_length=32,
            trials=3,
            storage=f"sqlite:///{folder}/searches.db",
            folder=str(folder / "runs"),
            workers=0,
        )
        best = search.select()
        print(f"{best.candidate.name}: a mistake costs {best.score:.3f} ± {best.error:.3f} on average")
        for name, baseline in search.record.baselines.items():
            print(f"{name}: {baseline.score:.3f}")


if __name__ == "__main__":
    main()
