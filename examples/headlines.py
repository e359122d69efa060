"""A packaged language model learns to write headlines, beside itself with examples in its prompt.

    python examples/headlines.py

A few minutes on two cores: few stories, one trial. `autopeft search --demo chat` does it properly.
"""

import tempfile
from itertools import islice
from pathlib import Path

import autopeft
from autopeft.backbone.gguf import unpacked
from autopeft.data.demo import chat_data, chat_model

ROWS = {"train": 64, "validation": 32, "test": 32}


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "few").mkdir()
        stories = chat_data(folder)
        for split, count in ROWS.items():
            with (stories / f"{split}.jsonl").open(encoding="utf-8") as lines:
                (folder / "few" / f"{split}.jsonl").write_text("".join(islice(lines, count)), encoding="utf-8")
        search = autopeft.search(
            model=str(unpacked(chat_model(), folder / "smollm2")),
            data=str(folder / "few"),
            space="quick_language",
            max_length=96,
            trials=1,
            storage=f"sqlite:///{folder}/searches.db",
            folder=str(folder / "runs"),
            workers=0,
        )
        best = search.select()
        print(f"{best.candidate.name}: loss {best.score:.3f} ± {best.error:.3f}")
        for name, baseline in search.record.baselines.items():
            print(f"{name}: {baseline.score:.3f}")
        best.save(folder / "winner")
        model = autopeft.load(folder / "winner")
        asked = [
            {"role": "system", "content": "Write a headline."},
            {"role": "user", "content": "The bank has raised interest rates to their highest for three years."},
        ]
        print(model.generate(asked, max_new_tokens=16))


if __name__ == "__main__":
    main()
