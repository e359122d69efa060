"""A search in a few lines: which method tells the sections of news by their headlines, within 1 GiB?

python examples/classify.py
"""

import tempfile
from pathlib import Path

import autopeft
from autopeft.data.demo import demo_data, demo_model


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        search = autopeft.search(
            model=str(demo_model()),
            data=str(demo_data(folder)),
            space="quick",
            max_length=32,
            trials=4,
            budget=autopeft.Budget(memory=2**30),
            storage=f"sqlite:///{folder}/searches.db",
            folder=str(folder / "runs"),
        )
        for trial in search.front:
            print(f"{trial.candidate.name:<12} {trial.score:.3f} with {trial.predicted.trainable:,} parameters")

        best = search.select(trainable=100_000)
        best.save(folder / "winner")
        model = autopeft.load(folder / "winner")
        print(model.predict(["Striker signs new deal after cup final", "Shares fall as bank warns on profits"]))


if __name__ == "__main__":
    main()
