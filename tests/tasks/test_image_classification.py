"""Images: how data is understood, what the model gets of it, what it costs, and a whole search."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import transformers as t

import autopeft
from autopeft.artifacts import read_description
from autopeft.backbone.load import load_backbone, load_skeleton
from autopeft.backbone.pixels import Pixels
from autopeft.data.store import Column, Dataset, open_split
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.space import load_space
from autopeft.tasks.image_classification import ImageClassification
from autopeft.tasks.metrics import ACCURACY
from autopeft.tasks.named import read_task, task_named
from autopeft.tasks.understanding import TaskData, encoded, understand
from autopeft.training.batches import by_length, varied
from autopeft.training.loop import train
from autopeft.training.model import TaskModel
from tests.pictures import COLOURS, SIDE, image_folder, photograph, tiny_vit
from tests.tiny import batch
from tests.user import user_folder

CLASSES = tuple(COLOURS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    image_folder(folder / "data", train=60, validation=30)
    tiny_vit(folder / "model")
    return folder


def table(folder: Path, rows: int, cell: Callable[[Path], object], name: str = "train.csv") -> pd.DataFrame:
    """Images in one folder and a table that names them, or holds what is made of them."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{row}.png" for row in range(rows)]
    for row, file in enumerate(files):
        photograph(CLASSES[row % 3], row).save(file)
    frame = pd.DataFrame(
        {"picture": [cell(file) for file in files], "label": [CLASSES[row % 3] for row in range(rows)]}
    )
    frame.to_csv(folder / name, index=False) if name.endswith("csv") else frame.to_parquet(folder / name)
    return frame


def read(data: TaskData, model: Path, folder: Path) -> Dataset:
    backbone = load_backbone(str(model))
    return open_split(encoded(replace(data, task=data.task.on(backbone)), backbone, 8, folder), "train")


def test_a_folder_of_images_is_known_and_described(place: Path) -> None:
    data = understand(str(place / "data"))
    assert data.task == ImageClassification(CLASSES)
    assert data.columns == {"label": ("label",), "image": ("image",)}
    assert data.described() == (
        "image-classification: image -> label",
        "rows: 60 train, 30 validation",
        "3 classes: blue 33%, green 33%, red 33%",
    )
    assert data.task.metric("auto").name == "accuracy"


def test_columns_of_paths_and_of_bytes_are_the_same_rows(tmp_path: Path) -> None:
    table(tmp_path / "paths", 30, lambda file: file.name)
    table(tmp_path / "bytes", 30, lambda file: {"bytes": file.read_bytes(), "path": None}, "train.parquet")
    paths, held = (understand(str(tmp_path / name)) for name in ("paths", "bytes"))
    assert paths.task == held.task == ImageClassification(CLASSES)
    assert paths.columns["image"] == ("picture",)
    assert paths.fingerprint == held.fingerprint


def test_rows_are_known_by_what_images_hold_not_by_where_they_lie(place: Path, tmp_path: Path) -> None:
    data = understand(str(place / "data"))
    moved = shutil.copytree(place / "data", tmp_path / "moved")
    assert understand(str(moved)).fingerprint == data.fingerprint
    photograph("red", 99).save(moved / "train" / "red" / "2.png")
    assert understand(str(moved)).fingerprint != data.fingerprint


def test_an_image_in_two_splits_is_told(place: Path, tmp_path: Path) -> None:
    data = shutil.copytree(place / "data", tmp_path / "data")
    for colour, other in (("red", "red"), ("blue", "green")):
        shutil.copy(next((data / "train" / colour).iterdir()), data / "validation" / other / "again.png")
    assert "images both in training and in validation: 2, of which 1 with another label" in understand(str(data)).notes


def test_texts_beside_images_are_learned_unless_the_images_are_named(tmp_path: Path) -> None:
    frame = table(tmp_path, 30, lambda file: file.name)
    frame.assign(text=[f"a {name} one" for name in frame["label"]]).to_csv(tmp_path / "train.csv")
    assert understand(str(tmp_path)).task.name == "text-classification"
    assert understand(str(tmp_path), {"image": ("picture",)}).task.name == "image-classification"


def test_a_row_without_an_image_stops_a_search_but_not_where_it_is_of_the_test_split(tmp_path: Path) -> None:
    frame = table(tmp_path, 30, lambda file: file.name)
    lost = frame.copy()
    lost.loc[3, "picture"] = "lost.png"
    lost.to_csv(tmp_path / "test.csv", index=False)
    data = understand(str(tmp_path), {"image": ("picture",)})
    assert len(data.splits["test"]) == 29
    assert "test rows without an image or a known label, left out: 1" in data.notes
    lost.to_csv(tmp_path / "validation.csv", index=False)
    with pytest.raises(AutopeftError, match=r"row 4 of the validation split names the image 'lost\.png', and there is"):
        understand(str(tmp_path), {"image": ("picture",)})


@pytest.mark.parametrize(
    ("called", "cell", "said"),
    [
        ("picture", "lost.png", r"row 4 of the train split names the image 'lost\.png', and there is no such file"),
        ("picture", "", "row 4 of the train split holds no image, neither as a path nor as bytes, but None"),
        ("picture", "n/a", "row 4 of the train split names the image 'n/a', and there is no such file"),
        (
            "shown",
            "../1.png",
            r"row 4 of the train split names the image '\.\./1\.png', (which lies outside|and there is)",
        ),
        ("shown", "https://host/{}.png", r"row 1 of the train split names the image .*, which is an address; download"),
        (
            "picture",
            "https://host/{}",
            r"row 1 of the train split names the image 'https://host/0', which is an address; download it",
        ),
    ],
)
def test_the_row_that_is_no_image_is_told_and_no_text_made_of_the_others(
    tmp_path: Path, called: str, cell: str, said: str
) -> None:
    frame = table(tmp_path, 30, lambda file: file.name).rename(columns={"picture": called})
    if "{}" in cell:
        frame[called] = [cell.format(row) for row in range(30)]
    else:
        frame.loc[3, called] = cell
    frame.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(AutopeftError, match=said):
        understand(str(tmp_path))


def kept_in(folder: Path, kind: str, cells: list[object]) -> Path:
    """Data of this kind whose column `odd` holds these cells, hardly any of them called as images are."""
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame({"odd": cells, "label": [CLASSES[row % 3] for row in range(len(cells))]})
    place = folder / kind
    match kind:
        case "a.csv":
            frame.to_csv(place, index=False)
        case "parts":
            place.mkdir()
            for number, part in enumerate((frame[:15], frame[15:])):
                part.to_csv(place / f"train-0000{number}-of-00002.csv", index=False)
        case "listed":
            place.mkdir()
            photograph("red", 0).save(place / "1.png")
            frame.assign(file_name="1.png").to_json(place / "metadata.jsonl", orient="records", lines=True)
        case "saved":
            datasets.Dataset.from_pandas(frame).save_to_disk(place)
        case _:
            frame.to_parquet(place)
    return place


@pytest.mark.parametrize("kind", ["a.csv", "a.parquet", "parts", "listed", "saved"])
def test_a_cell_of_any_column_is_held_to_the_folder_and_tells_nothing_of_what_lies_outside(
    tmp_path: Path, kind: str
) -> None:
    photograph("red", 1).save(tmp_path / "there.dat", "png")
    told = []
    for number, name in enumerate(("there.dat", "none.dat", "x" * 300, "there.dat/x", "../" * 30 + "etc/passwd")):
        data = kept_in(tmp_path / f"{number}", kind, [f"{tmp_path}/{name}"] * 30)
        with pytest.raises(AutopeftError, match="names the image ") as caught:
            understand(str(data), {"image": ("odd",)})
        told.append(str(caught.value).partition(", which ")[2].replace(f"{tmp_path}/{number}", "here"))
    assert len({*told}) == 1
    assert told[0].startswith("lies outside of 'here")


def test_a_split_whose_column_is_another_than_in_training_is_held_too(tmp_path: Path) -> None:
    table(tmp_path / "data", 30, lambda file: file.name)
    photograph("red", 1).save(tmp_path / "there.dat", "png")
    frame = pd.DataFrame({"picture": ["../there.dat"] * 30, "label": [*CLASSES] * 10})
    frame.to_csv(tmp_path / "data" / "test.csv", index=False)
    assert "test" not in understand(str(tmp_path / "data")).splits
    frame.to_csv(tmp_path / "data" / "validation.csv", index=False)
    with pytest.raises(AutopeftError, match=r"row 1 of the validation split names .*, which lies outside of "):
        understand(str(tmp_path / "data"))


def test_names_without_an_ending_and_dictionaries_among_names_are_found_below_the_folder(tmp_path: Path) -> None:
    table(tmp_path, 30, lambda file: str(file.rename(file.with_suffix(""))))
    assert len(understand(str(tmp_path), {"image": ("picture",)}).splits["train"]) == 20
    cells = [{"bytes": None, "path": "0"}, "1", *[str(row) for row in range(2, 29)], {"bytes": None, "path": "/etc/x"}]
    frame = pd.DataFrame({"picture": cells, "label": [*CLASSES] * 10})
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    with pytest.raises(AutopeftError, match=r"row 30 of the train split names the image '/etc/x', which lies outside"):
        understand(str(tmp_path / "a.jsonl"), {"image": ("picture",)})


def test_one_missing_among_bytes_is_told(tmp_path: Path) -> None:
    table(tmp_path, 30, lambda file: None if file.stem == "3" else file.read_bytes(), "train.parquet")
    with pytest.raises(AutopeftError, match=r"^row 4 of the train split holds no image, .* but None"):
        understand(str(tmp_path))


def test_names_of_images_that_are_not_there_beside_texts_are_no_images(tmp_path: Path) -> None:
    rows = range(30)
    frame = pd.DataFrame({"avatar": [f"{row}.png" for row in rows], "said": [f"it is {row}" for row in rows]})
    frame.assign(label=[CLASSES[row % 3] for row in rows]).to_csv(tmp_path / "train.csv", index=False)
    assert understand(str(tmp_path)).columns["text"] == ("said",)


def test_a_picture_that_is_described_is_a_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"picture": [f"a dog and {row} cats" for row in range(30)], "label": [*CLASSES] * 10})
    frame.to_csv(tmp_path / "train.csv", index=False)
    assert understand(str(tmp_path)).task.name == "text-classification"


def test_a_broken_image_is_answered_with_its_row(place: Path, tmp_path: Path) -> None:
    data = shutil.copytree(place / "data", tmp_path / "data")
    file = sorted((data / "train" / "green").iterdir())[0]
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(AutopeftError, match=rf"^the image '{file}' of row 21 of the train split cannot be read: "):
        read(understand(str(data)), place / "model", tmp_path)


def test_the_model_reads_what_its_processor_makes(place: Path, tmp_path: Path) -> None:
    data = understand(str(place / "data"))
    split, backbone = read(data, place / "model", tmp_path), load_backbone(str(place / "model"))
    task = data.task.on(backbone)
    assert task == ImageClassification(CLASSES, Pixels(SIDE, SIDE))
    found = split.batch([0, 7])
    assert {name: (each.dtype, each.shape[1:]) for name, each in found.items()} == task.shapes(8)
    images = [data.splits["train"].inputs[row].opened() for row in (0, 7)]
    expected = backbone.processor(images, return_tensors="pt")["pixel_values"]
    assert torch.allclose(task.inputs(found)["pixel_values"], expected, atol=0.01)


def test_an_evaluation_takes_fewer_images_at_a_time_if_they_are_large() -> None:
    large, small = (
        Dataset({"pixels": Column(np.broadcast_to(np.uint8(0), (500, side, side, 3)))}, 8) for side in (224, 16)
    )
    assert [len(each) for each in by_length(large.lengths)][:2] == [81, 81]
    assert [len(each) for each in by_length(small.lengths)] == [256, 244]


def test_trainings_that_flip_and_shift_repeat_exactly(place: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(place / "model"))
    data = understand(str(place / "data"))
    split, task = read(data, place / "model", tmp_path), data.task.on(backbone)
    cpu = torch.device("cpu")

    def losses(**changed: Any) -> list[float]:
        candidate = Candidate("lora", (Part("lora"),), Training(batch_size=20, epochs=1, **changed))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            with attach(backbone.model, ["lora"], backbone.sites) as attached:
                model = TaskModel(
                    backbone.model, task.new_head(backbone.sites.width, Training()), attached, task.inputs
                )
                return [rung.loss for rung in train(model, split, split, candidate, ACCURACY, seed=1, device=cpu)]

    both = losses(flip=True, shift=0.1)
    assert losses(flip=True, shift=0.1) == both
    assert losses() != both


def test_images_are_read_anew_for_another_processor(place: Path, tmp_path: Path) -> None:
    data, other = understand(str(place / "data")), tiny_vit(tmp_path / "other", side=16)
    assert read(data, place / "model", tmp_path).batch([0])["pixels"].shape == (1, SIDE, SIDE, 3)
    assert read(data, other, tmp_path).batch([0])["pixels"].shape == (1, 16, 16, 3)


def test_a_model_that_reads_something_else_is_refused_before_anything_is_made_of_it(
    place: Path, tmp_path: Path
) -> None:
    texts = user_folder(tmp_path)
    for model, data, said in (
        (place / "model", texts / "reviews.csv", "' reads images: text-classification needs a model of texts."),
        (texts / "model", place / "data", "' reads token ids: image-classification needs a model of images."),
    ):
        with pytest.raises(AutopeftError, match=said):
            autopeft.search(
                model=str(model), data=str(data), workers=0, storage=f"sqlite:///{tmp_path}/a.db", folder=str(tmp_path)
            )
    with pytest.raises(AutopeftError, match=r"needs a model of images\.$"):
        autopeft.predict(str(texts / "model"), "lora", task="image-classification")


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0},
        {"width": 1e9},
        {"height": True},
        {"factor": "a"},
        {"factor": float("nan")},
        {"mean": [1, 2]},
        {"deviation": [1, 0, 1]},
        {"mean": None},
        {"more": 1},
    ],
)
def test_how_images_come_to_a_model_is_checked_when_a_stranger_wrote_it(wrong: dict[str, object]) -> None:
    plain = ImageClassification(CLASSES).to_dict()
    assert read_task(plain) == ImageClassification(CLASSES)
    with pytest.raises(AutopeftError, match="these are no values of a task 'image-classification': "):
        read_task({**plain, "pixels": {**plain["pixels"], **wrong}})


def test_flips_and_shifts_change_images_and_nothing_else() -> None:
    texts, images = (
        batch(3),
        {"pixels": torch.randint(0, 256, (8, 6, 6, 3), dtype=torch.uint8), "labels": torch.ones(8)},
    )
    both = Training(flip=True, shift=0.25)
    assert varied(texts, both) is texts
    before = torch.random.get_rng_state()
    assert torch.equal(varied(images, Training())["pixels"], images["pixels"])
    assert torch.equal(torch.random.get_rng_state(), before)
    changed = varied(images, both)
    assert changed["labels"] is images["labels"]
    assert not torch.equal(changed["pixels"], images["pixels"])


def test_candidates_that_were_recorded_before_still_load_and_searches_on_images_vary_them() -> None:
    candidate = load_space("default").having(ImageClassification.settings).defaults("lora")
    assert candidate.training.flip
    plain = candidate.to_dict()
    for name in ("flip", "shift"):
        plain["training"].pop(name)
    assert not Candidate.from_dict(plain).training.flip


CONFIGS = {
    "vit": lambda: t.ViTConfig(
        hidden_size=48, num_hidden_layers=5, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8
    ),
    "dinov2": lambda: t.Dinov2Config(
        hidden_size=48, num_hidden_layers=5, num_attention_heads=4, mlp_ratio=2, image_size=56, patch_size=14
    ),
}


@pytest.mark.parametrize(
    ("architecture", "name", "checkpointed"),
    [
        ("vit", "lora", False),
        ("dinov2", "adapter", True),
        pytest.param("vit", "fishmask", False, marks=pytest.mark.grid),
        pytest.param("vit", "full", True, marks=pytest.mark.grid),
        pytest.param("dinov2", "prefix_tuning", False, marks=pytest.mark.grid),
        pytest.param("dinov2", "ladder", False, marks=pytest.mark.grid),
    ],
)
def test_costs_are_predicted_as_they_are_measured(architecture: str, name: str, checkpointed: bool) -> None:
    how = {"task": "image-classification", "labels": 10, "batch_size": 6, "gradient_checkpointing": checkpointed}
    config = CONFIGS[architecture]()
    model = t.AutoModel.from_config(config)
    model.pooler = None
    predicted, measured = autopeft.predict(config, name, **how), autopeft.measure(model, name, **how)
    assert predicted.memory == pytest.approx(measured.memory, rel=0.03)
    assert (predicted.trainable, predicted.stored) == (measured.trainable, measured.stored)
    assert predicted.flops == pytest.approx(measured.flops, rel=0.001)
    assert predicted.inference_flops == pytest.approx(measured.inference_flops, rel=0.001)
    assert predicted.set_up_flops == pytest.approx(measured.set_up_flops, rel=0.001)


def test_an_estimate_is_for_images_of_the_configurations_size() -> None:
    assert task_named("image-classification").sized(2).on(load_skeleton(CONFIGS["dinov2"]())).pixels == Pixels(56, 56)
    small, large = CONFIGS["vit"](), CONFIGS["vit"]()
    large.image_size = 64
    how = {"task": "image-classification", "dtype": "bfloat16"}
    one, other = (autopeft.predict(of, "lora", **how) for of in (small, large))
    assert one.flops * 3 < other.flops
    estimates = {each.name: each for each in autopeft.estimate(small, space="quick", batch_size=16, **how)}
    assert estimates["lora"].costs == one
    assert estimates["prompt_tuning"].costs is None


def test_a_whole_search_finds_a_model_that_knows_colours(place: Path, tmp_path: Path) -> None:
    search = autopeft.search(
        model=str(place / "model"),
        data=str(place / "data"),
        methods=("lora",),
        trials=2,
        workers=0,
        storage=f"sqlite:///{tmp_path}/searches.db",
        folder=str(tmp_path / "runs"),
        name="colours",
    )
    assert len(search.front) >= 1
    for trial in search.trials:
        assert trial.predicted.memory == pytest.approx(trial.outcome.measured.memory, rel=0.03)
    best = search.select()
    best.save(tmp_path / "winner")
    model = autopeft.load(tmp_path / "winner")
    files = sorted((place / "data" / "validation").glob("*/*"))
    answers = model.predict(files)
    assert np.mean([answer == file.parent.name for answer, file in zip(answers, files, strict=True)]) == best.score
    assert best.score > 0.9
    one = photograph("red", 5)
    assert model.predict(one) == "red"
    assert model.predict(files[0].read_bytes()) == model.predict(str(files[0])) == answers[0]
    assert model.predict(np.array([*map(str, files[:2])])) == model.predict(pd.Series(files[:2])) == answers[:2]
    assert sum(model.scores(one).values()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(model.logits(one), model.logits([one, *files])[0], atol=0.05)
    for wrong in (7, [7], None):
        with pytest.raises(AutopeftError, match="holds no image, neither as a path nor as bytes, but "):
            model.predict(wrong)
    search.export(best.number, tmp_path / "merged", merge=True)
    merged = autopeft.load(tmp_path / "merged")
    assert merged.backbone.pixels == model.backbone.pixels
    assert torch.allclose(merged.logits(one), model.logits(one), atol=0.05)
    assert read_description(tmp_path / "merged")[0].task == ImageClassification(CLASSES, Pixels(SIDE, SIDE))
    other = tiny_vit(tmp_path / "other")
    t.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=[0, 0, 0]).save_pretrained(other)
    with pytest.raises(AutopeftError, match="was trained on images as another processor makes them than that of"):
        autopeft.load(tmp_path / "winner", model=str(other))
