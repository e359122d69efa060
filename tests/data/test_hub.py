"""Names of the hub with configurations and revisions, against a hub of three data sets; nothing is downloaded."""

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from autopeft.data.hub import load_from_hub
from autopeft.errors import AutopeftError

HUB = {"imdb": ["default"], "glue": ["cola", "sst2"], "user/reviews": ["de", "en"], "user/one": ["default"]}


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    def names(name, **_):
        if name not in HUB:
            raise DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub or cannot be accessed.")
        return HUB[name]

    def load(name, configuration=None, revision=None):
        if name == "user/program":
            raise RuntimeError("Dataset scripts are no longer supported, but found program.py")
        known = names(name)
        if configuration is None and len(known) > 1:
            raise ValueError("Config name is missing.\nPlease pick one")
        if configuration is not None and configuration not in known:
            raise ValueError(f"BuilderConfig '{configuration}' not found.")
        return {"loaded": (name, configuration, revision)}

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_config_names", names)


def load(data: str) -> tuple[object, list[str]]:
    notes: list[str] = []
    return load_from_hub(data, notes.append)["loaded"], notes


@pytest.mark.parametrize(
    ("data", "loaded"),
    [
        ("imdb", ("imdb", None, None)),
        ("user/one", ("user/one", None, None)),
        ("user/reviews/en", ("user/reviews", "en", None)),
        ("imdb@main", ("imdb", None, "main")),
        ("user/reviews/en@refs/pr/1", ("user/reviews", "en", "refs/pr/1")),
    ],
)
def test_a_name_says_data_set_configuration_and_revision(data, loaded):
    assert load(data) == (loaded, [])


def test_a_name_that_is_no_data_set_is_read_as_a_configuration_and_told():
    note = "is read as the configuration 'sst2' of the data set 'glue'"
    assert load("glue/sst2") == (("glue", "sst2", None), [f"'glue/sst2' {note}"])
    assert load("glue/sst2@v1") == (("glue", "sst2", "v1"), [f"'glue/sst2@v1' {note}"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("glue", "the data set 'glue' has several configurations: 'cola, sst2'; give one, as in 'glue/cola'."),
        ("user/reviews", "'user/reviews' has several configurations: 'de, en'; give one, as in 'user/reviews/de'."),
        ("glue/sst3", "unknown configuration of the data set 'glue': 'sst3'. Did you mean 'sst2'? Known: cola, sst2."),
        (
            "user/program",
            "'user/program' is a program, which is not run; the hub may hold its tables: try 'user/program@",
        ),
    ],
)
def test_a_name_that_leaves_a_choice_or_cannot_be_is_answered(data, said):
    with pytest.raises(AutopeftError) as caught:
        load(data)
    assert said in str(caught.value)


def test_a_data_set_that_nobody_knows_is_said_by_its_whole_name():
    with pytest.raises(DatasetNotFoundError, match="'user/nothing' doesn't exist"):
        load("user/nothing")
