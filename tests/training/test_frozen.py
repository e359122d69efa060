"""States of frozen layers are computed once: the same losses and scores, less work, and none kept where they differ."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, Dinov2Config, PretrainedConfig, SwinConfig

from autopeft.data import states
from autopeft.data.states import OF_DISK, OF_MEMORY, KeptStates, free, numbered, own_share, room
from autopeft.data.store import MASK, Column, Dataset
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.metrics import ACCURACY
from autopeft.training.frozen import FrozenStates, Kept, entry
from autopeft.training.loop import set_up, train
from autopeft.training.model import TaskModel
from autopeft.trial import Rung
from tests.sampled import sampled
from tests.tiny import tiny
from tests.training.data import TASK, split

CPU = torch.device("cpu")
CARDS = load_cards()
TRAIN, VALIDATION = split(24, 0), split(12, 1)
TRAINING = Training(batch_size=8, epochs=2)
LAYERS = 4
SERVED = [name for name in CARDS if ("layers" in CARDS[name].settings or name == "top_layers") and name != "lily"]


@pytest.fixture(autouse=True)
def _in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.training.precision.has_bf16", lambda _: False)


@pytest.fixture(scope="module")
def shared() -> tuple[nn.Module, FrozenStates]:
    """A backbone with dropout, and a store that one trial after another fills and reads."""
    return tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)


def candidate(name: str, training: Training = TRAINING, **settings: Any) -> Candidate:
    """One that leaves the lower half alone, where the method has such."""
    own = {"layers": "last 50%"} if "layers" in CARDS[name].settings and name != "ladder" else {}
    return Candidate(name, (Part(name, {**own, **settings}, 1e-3),), training)


@contextmanager
def attached(model: nn.Module, chosen: Candidate) -> Iterator[TaskModel]:
    torch.manual_seed(3)
    with attach(model, configured_parts(chosen.parts, CARDS)) as methods:
        trained = TaskModel(model, TASK.new_head(48, chosen.training), methods)
        set_up(trained, TRAIN, seed=1, device=CPU)
        yield trained


def rungs(model: nn.Module, chosen: Candidate, store: FrozenStates | None = None) -> tuple[list[Rung], Kept | None]:
    with attached(model, chosen) as trained:
        if store is None:
            return list(train(trained, TRAIN, VALIDATION, chosen, ACCURACY, seed=1, device=CPU)), None
        with store.serving(trained, chosen.training, CPU) as kept:
            data, validation = store.train, store.validation
            return list(train(trained, data, validation, chosen, ACCURACY, seed=1, device=CPU)), kept


@contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """How often the lowest layer runs meanwhile: once to find sites, and once where a store is tried."""
    runs = [0]
    inner = next(each for each in model.get_submodule(bottom(model)).modules() if isinstance(each, nn.Linear))

    def count(*_: Any) -> None:
        runs[0] += 1

    handle = inner.register_forward_hook(count)
    yield runs
    handle.remove()


def bottom(model: nn.Module) -> str:
    return "encoder.layer.0" if hasattr(model, "encoder") else "layers.0"


def same(one: list[Rung], other: list[Rung]) -> None:
    assert [each.loss for each in one] == pytest.approx([each.loss for each in other], abs=1e-5)
    assert [each.score for each in one] == [each.score for each in other]


@pytest.mark.parametrize("name", sampled(SERVED, every=4))
def test_losses_are_those_of_the_plain_run(name: str, shared: tuple[nn.Module, FrozenStates]) -> None:
    """Whoever filled the store."""
    model, store = shared
    plain, _ = rungs(model, candidate(name))
    served, kept = rungs(model, candidate(name), store)
    assert kept is not None
    assert (kept.why_not, kept.layers >= LAYERS // 2, kept.bytes > 0) == ("", True, True)
    same(served, plain)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("name", ["lora", "ladder"])
def test_decoders_are_served_as_well(name: str, architecture: str) -> None:
    model = tiny(architecture, layers=LAYERS)
    plain, _ = rungs(model, candidate(name))
    served, kept = rungs(model, candidate(name), FrozenStates(TRAIN, VALIDATION))
    assert kept is not None
    assert kept.bytes > 0
    same(served, plain)


DINOV2 = Dinov2Config(
    hidden_size=48, num_hidden_layers=LAYERS, num_attention_heads=4, image_size=32, patch_size=8, drop_path_rate=0.1
)
SWIN = SwinConfig(embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=4, image_size=32, patch_size=4)


@pytest.mark.parametrize("config", [DINOV2, SWIN], ids=lambda config: config.model_type)
def test_images_are_served_too_also_by_layers_of_several_stages(config: PretrainedConfig) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config).eval()
    pixels = np.random.default_rng(0).normal(size=(24, 3, 32, 32)).astype(np.float32)
    data = Dataset({"pixel_values": Column(pixels), "labels": Column(np.arange(24) % 2)}, 0)
    store, chosen = FrozenStates(data, data), candidate("lora")
    losses = []
    for served in (False, True):
        torch.manual_seed(3)
        with attach(model, configured_parts(chosen.parts, CARDS)) as methods:
            width = model(pixel_values=torch.zeros(1, 3, 32, 32)).last_hidden_state.shape[-1]
            trained = TaskModel(model, TASK.new_head(width, TRAINING), methods)
            with store.serving(trained, TRAINING, CPU) if served else nullcontext() as kept:
                rows, few = (store.train, store.validation) if served else (data, data)
                losses.append(list(train(trained, rows, few, chosen, ACCURACY, seed=1, device=CPU)))
    assert kept is not None
    assert (kept.why_not, kept.bytes > 0) == ("", True)
    same(*losses)


def test_frozen_layers_run_once_for_every_row_and_not_at_all_once_all_are_kept() -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    with counted(model) as plain:
        rungs(model, candidate("lora"))
    with counted(model) as filling:
        rungs(model, candidate("lora"), store)
    with counted(model) as filled:
        rungs(model, candidate("lora", rank=4), store)
    epoch, evaluation, rungs_, found, tried = 3, 2, 3, 1, 1
    assert plain[0] == found + 2 * epoch + rungs_ * evaluation
    assert filling[0] == found + 2 * tried + epoch + evaluation
    assert filled[0] == found + tried


def test_a_store_serves_whoever_begins_higher_and_fills_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    rungs(model, candidate("lora"), store)
    plain, _ = rungs(model, candidate("top_layers"))
    held = store.bytes
    with counted(model) as runs:
        higher, _ = rungs(model, candidate("top_layers"), store)
    assert (runs[0], store.bytes) == (2, 2 * held)
    same(higher, plain)
    monkeypatch.setattr("autopeft.training.frozen.room", lambda *_, **__: 0)
    _, kept = rungs(model, candidate("ladder"), store)
    assert kept is not None
    assert kept.why_not == "there is room for 0 bytes, and they take 61,248"


def test_without_more_room_what_is_kept_below_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    rungs(model, candidate("lora"), store)
    held = store.bytes
    monkeypatch.setattr("autopeft.training.frozen.room", lambda *_, **__: 0)
    plain, _ = rungs(model, candidate("top_layers"))
    with counted(model) as runs:
        served, _ = rungs(model, candidate("top_layers"), store)
    assert (runs[0], store.bytes) == (2, held)
    same(served, plain)


@pytest.mark.parametrize(
    "training",
    [
        Training(batch_size=8, epochs=2, micro_batch_size=3),
        Training(batch_size=8, epochs=2, gradient_checkpointing=True),
    ],
)
def test_pieces_of_batches_and_checkpointing_change_nothing(training: Training) -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    plain, _ = rungs(model, candidate("lora", training))
    same(rungs(model, candidate("lora", training), store)[0], plain)


def test_texts_longer_than_the_model_reads_are_kept_as_far_as_it_reads_them() -> None:
    model = tiny("bert", layers=LAYERS)
    data, validation = split(24, 0, longest=90), split(12, 1, longest=90)
    store = FrozenStates(data, validation)
    chosen = candidate("lora")
    with attached(model, chosen) as trained:
        plain = list(train(trained, data, validation, chosen, ACCURACY, seed=1, device=CPU))
    with attached(model, chosen) as trained, store.serving(trained, TRAINING, CPU) as kept:
        served = list(train(trained, store.train, store.validation, chosen, ACCURACY, seed=1, device=CPU))
    assert kept.bytes == 48 * 4 * np.minimum(np.concatenate([data.lengths, validation.lengths]), 64).sum()
    same(served, plain)


def test_in_bf16_states_are_kept_as_they_are_computed_and_losses_stay_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.training.precision.has_bf16", lambda _: True)
    model, store = tiny("llama", layers=LAYERS).to(torch.bfloat16), FrozenStates(TRAIN, VALIDATION)
    plain, _ = rungs(model, candidate("lora"))
    served, kept = rungs(model, candidate("lora"), store)
    assert kept is not None
    assert kept.bytes == 48 * 2 * (TRAIN.lengths.sum() + VALIDATION.lengths.sum())
    assert [each.loss for each in served] == pytest.approx([each.loss for each in plain], abs=1e-2)


@pytest.mark.parametrize("name", ["full", "prompt_tuning", "lora"])
def test_who_trains_from_the_bottom_on_keeps_nothing(name: str) -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    settings = {"layers": "all"} if name == "lora" else {}
    _, kept = rungs(model, candidate(name, **settings), store)
    assert (kept, store.bytes) == (Kept(0), 0)


def test_images_that_are_changed_by_chance_are_not_kept() -> None:
    training = Training(batch_size=8, epochs=2, flip=True)
    _, kept = rungs(tiny("bert", layers=LAYERS), candidate("lora", training), FrozenStates(TRAIN, VALIDATION))
    assert kept == Kept(2, why_not="images are changed by chance")


def test_layers_that_hand_on_more_than_states_compute_as_ever() -> None:
    """T5's hand on their positions' bias."""
    model = tiny("t5", layers=LAYERS)
    plain, _ = rungs(model, candidate("lora"))
    served, kept = rungs(model, candidate("lora"), FrozenStates(TRAIN, VALIDATION))
    assert kept == Kept(2, why_not="layers hand on more than states, or are not called one after the other")
    same(served, plain)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_method_that_looks_at_padding_computes_as_ever(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lily weighs its experts by the mean of all states."""
    monkeypatch.setattr("autopeft.training.precision.has_bf16", lambda _: bf16)
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    plain, _ = rungs(model, candidate("lily"))
    served, kept = rungs(model, candidate("lily"), store)
    assert kept is not None
    assert (kept.bytes, store.bytes, kept.why_not != "") == (0, 0, True)
    same(served, plain)


def test_a_backbone_that_is_not_as_it_was_is_noticed() -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    rungs(model, candidate("lora"), store)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight[0].add_(0.5)
    _, kept = rungs(model, candidate("lora"), store)
    assert kept == Kept(2, why_not="the model gives other states with kept ones")


def test_a_full_disk_leaves_all_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> torch.Tensor:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(states, "_mapped", full)
    store = FrozenStates(TRAIN, VALIDATION)
    served, kept = rungs(tiny("bert", layers=LAYERS), candidate("lora"), store)
    assert kept is not None
    assert "No space left on device" in kept.why_not
    assert (served[-1].step, store.bytes) == (6, 0)


def test_what_lies_below_all_that_is_trained_is_without_dropout_in_training() -> None:
    model = tiny("bert", layers=LAYERS)
    with attached(model, candidate("lora")) as trained:
        trained.train()
        below = (model.embeddings, model.encoder.layer[0], model.encoder.layer[1])
        assert not any(each.training for part in below for each in part.modules())
        assert all(each.training for each in (model, model.encoder, *model.encoder.layer[2].modules()))
    with attached(model, candidate("lora", layers="all")) as trained:
        trained.train()
        assert all(each.training for each in model.modules())


def test_after_the_trial_layers_are_called_as_before() -> None:
    model, store = tiny("bert", layers=LAYERS), FrozenStates(TRAIN, VALIDATION)
    before = [{*vars(each)} for each in model.modules()]
    with attached(model, candidate("lora")) as trained:
        values = [each.detach().clone() for each in trained.methods.parameters()]
        with store.serving(trained, TRAINING, CPU):
            assert "forward" in vars(model.encoder.layer[0])
            assert all(map(torch.equal, values, trained.methods.parameters()))
    assert [{*vars(each)} for each in model.modules()] == before


@pytest.mark.parametrize(
    ("wanted", "filled", "expected"),
    [
        ({2}, {2}, 2),
        ({2}, {1}, 1),
        ({2}, set(), -1),
        ({0, 1, 3}, {0, 1, 2, 3}, 3),
        ({0, 1, 3}, {0, 2, 3}, 0),
        ({0, 1, 3}, {1, 2, 3}, -1),
        ({1, 3}, {0, 2, 3}, 0),
    ],
)
def test_a_pass_begins_at_the_highest_states_with_which_all_wanted_ones_are_kept(
    wanted: set[int], filled: set[int], expected: int
) -> None:
    assert entry(wanted, filled) == expected


def test_room_is_a_share_of_what_is_free_less_what_is_held() -> None:
    assert room(1000, 10_000, held=0, share=1.0) == OF_MEMORY * 1000
    assert room(1000, 10_000, held=100, share=1.0) == OF_MEMORY * 1000 - 100
    assert room(1000, 100, held=0, share=1.0) == OF_DISK * 100
    assert room(1000, 60, held=40, share=0.5) == 0
    assert room(1000, 10_000, held=0, share=0.5) == OF_MEMORY * 500


def test_what_a_container_uses_already_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"_LIMITED": "1000\n", "_USED": "900\n", "_USES": "anon 500\ninactive_file 150\n"}
    for name, text in said.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(f"autopeft.data.states.{name}", tmp_path / name)
    assert free()["memory"] == 250
    (tmp_path / "_LIMITED").write_text("max\n")
    assert free()["memory"] > 1000


def test_a_workers_share_is_that_of_the_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.data.states.machine.cores", lambda: 2 * torch.get_num_threads())
    assert own_share() == 0.5


def test_states_come_back_row_by_row_with_zeros_for_padding() -> None:
    lengths = np.array([2, 3, 1])
    states = torch.randn(3, 4, 5)
    kept = KeptStates(lengths, 3, states)
    kept.put(np.array([2, 0]), states[[2, 0]])
    assert (kept.has(np.array([0, 2])), kept.has(np.array([0, 1]))) == (True, False)
    back = kept.get(np.array([0, 2]), 4)
    assert torch.equal(back[0, :2], states[0, :2])
    assert torch.equal(back[1, :1], states[2, :1])
    assert not back[0, 2:].any()
    assert not back[1, 1:].any()
    assert kept.bytes == 6 * 5 * 4


def test_rows_of_several_splits_are_numbered_one_after_the_other() -> None:
    one, other = numbered((TRAIN, VALIDATION))
    assert one.batch([3, 1])["rows"].tolist() == [3, 1]
    assert other.batch([3, 1])["rows"].tolist() == [27, 25]
    assert torch.equal(other.batch([2])[MASK], VALIDATION.batch([2])[MASK])
