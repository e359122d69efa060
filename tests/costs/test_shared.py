"""What a process asks again of a backbone is not simulated again, and nothing else is taken for it."""

from threading import Thread
from typing import Any

import pytest
from transformers import BertConfig

import autopeft
from autopeft.backbone.load import load_skeleton
from autopeft.costs import shared
from autopeft.costs.predict import Predictor
from autopeft.methods.registry import Configured
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from tests.tiny import CONFIGS

ASKED: dict[str, Any] = {"batch_size": 4, "length": 16}


@pytest.fixture
def simulations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One for each time that something is simulated whole, in a process that knows nothing yet."""
    seen: list[Any] = []
    real = Predictor._simulated

    def counted(self: Predictor, *given: Any, **how: Any) -> Any:
        seen.append(given)
        return real(self, *given, **how)

    monkeypatch.setattr(Predictor, "_simulated", counted)
    monkeypatch.setattr(shared, "_of_thread", type(shared._of_thread)())
    return seen


def test_what_is_asked_again_is_not_simulated_again(simulations: list[Any]) -> None:
    first = autopeft.predict(CONFIGS["bert"](), "bitfit", **ASKED)
    once = len(simulations)
    again = CONFIGS["bert"]()
    again._name_or_path = "it lies elsewhere now"
    assert autopeft.predict(again, "bitfit", **ASKED) == first
    assert len(simulations) == once > 0


@pytest.mark.parametrize(
    "other",
    [{"length": 8}, {"batch_size": 2}, {"labels": 3}, {"dtype": "bfloat16"}, {"task": "token-classification"}],
    ids=lambda other: next(iter(other)),
)
def test_what_differs_is_simulated(other: dict[str, Any], simulations: list[Any]) -> None:
    config = CONFIGS["bert"]()
    autopeft.predict(config, "bitfit", **ASKED)
    before = len(simulations)
    changed = autopeft.predict(config, "bitfit", **{**ASKED, **other})
    assert len(simulations) > before
    shared._of_thread.__dict__.clear()
    assert autopeft.predict(config, "bitfit", **{**ASKED, **other}) == changed


def test_another_model_and_another_precision_are_others(
    simulations: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS["bert"]()
    deeper = BertConfig(**{**config.to_dict(), "num_hidden_layers": config.num_hidden_layers + 1})
    counts = []
    for native in (False, True):
        monkeypatch.setattr(precision, "has_bf16", lambda _, native=native: native)
        for each in (config, deeper):
            autopeft.predict(each, "bitfit", **ASKED)
            counts.append(len(simulations))
    assert counts == sorted({*counts})


def test_another_threads_predictions_are_its_own(simulations: list[Any]) -> None:
    costs = [autopeft.predict(CONFIGS["bert"](), "bitfit", **ASKED)]
    before = len(simulations)
    thread = Thread(target=lambda: costs.append(autopeft.predict(CONFIGS["bert"](), "bitfit", **ASKED)))
    thread.start()
    thread.join()
    assert costs[0] == costs[1]
    assert len(simulations) == 2 * before


@pytest.mark.usefixtures("simulations")
def test_of_a_users_own_code_nothing_is_kept() -> None:
    def made(*implementations: str) -> Predictor:
        used = [Configured("one", each, {}, {}) for each in implementations]
        task = TextClassification.sized(2)
        return shared.shared_predictor(load_skeleton(CONFIGS["bert"]()), {}, task, 16, used)

    assert made("peft.LoraConfig", "autopeft.methods.adapter.Adapter")._known is made("peft.IA3Config")._known
    assert made("mine.Method")._known is not made("mine.Method")._known


@pytest.mark.usefixtures("simulations")
def test_few_are_kept() -> None:
    for length in range(1, 2 * shared._KEPT):
        shared.shared_predictor(load_skeleton(CONFIGS["bert"]()), {}, TextClassification.sized(2), length, ())
    assert len(shared._of_thread.predictors) == shared._KEPT
