"""A training that is interrupted at a rung and goes on elsewhere equals one that was not, to the bit."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.passes import evaluating
from autopeft.methods.registry import configured_parts
from autopeft.searching.proposer import default_params
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import load_space
from autopeft.tasks.metrics import ACCURACY
from autopeft.training.loop import UNBROKEN, Course, set_up, train
from autopeft.training.model import TaskModel
from autopeft.training.state import State, read_state, take_up, write_state
from autopeft.trial import Rung
from tests.tiny import tiny
from tests.training.data import TASK, split

CPU = torch.device("cpu")
SPACE = load_space("default")
NAMES = (*SPACE.methods, *SPACE.hybrids)
QUICK = ("adalora", "fishmask", "far", "ladder")
"""Methods that go by more than the values that they train, or draw numbers of their own."""
TRAIN, VALIDATION = split(48, 0), split(40, 1)
OF = {"seed": 1}


def candidate(name: str) -> Candidate:
    """A method or hybrid at its defaults, with dropout where it has it, and batches that are taken in pieces."""
    drawn = SPACE.draw(Recalled(default_params(SPACE, name)))
    parts = tuple(
        replace(part, settings={**part.settings, "dropout": 0.1}) if "dropout" in part.settings else part
        for part in drawn.parts
    )
    training = replace(drawn.training, batch_size=8, micro_batch_size=4, epochs=3, least_steps=0, head_start="random")
    return replace(drawn, parts=parts, training=training)


@contextmanager
def classifier(chosen: Candidate) -> Iterator[TaskModel]:
    """A model as a worker makes it, with dropout in the backbone, too."""
    torch.manual_seed(7)
    model = tiny("bert", layers=6 if "s4" in chosen.name else 2)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    with attach(model, configured_parts(chosen.parts, SPACE.cards)) as attached:
        yield TaskModel(attached.model, TASK.new_head(48, chosen.training), attached)


def trained(model: TaskModel, chosen: Candidate, course: Course = UNBROKEN) -> Iterator[Rung]:
    return train(model, TRAIN, VALIDATION, chosen, ACCURACY, seed=1, device=CPU, course=course)


def reached(model: TaskModel) -> dict[str, torch.Tensor]:
    both = {f"{each.part}.{each.name}": each.tensor for each in model.methods.tensors()}
    return {name: tensor.detach().clone() for name, tensor in {**both, **model.head.state_dict()}.items()}


def told(rungs: list[Rung]) -> list[tuple[int, float, float]]:
    return [(rung.step, rung.score, rung.loss) for rung in rungs]


def interrupted_and_resumed_equals_unbroken(name: str, folder: Path) -> None:
    chosen = candidate(name)
    try:
        with classifier(chosen) as model:
            set_up(model, TRAIN, seed=1, device=CPU)
            rungs, values = list(trained(model, chosen)), reached(model)
    except CannotAttach as refusal:
        pytest.skip(f"refused: {refusal}")
    assert len(rungs) == 3
    file, curve = folder / "state", []
    for _ in rungs:
        # Another worker at each rung: nothing is left of the one before but the file.
        with classifier(chosen) as model:
            state = read_state(file, OF)
            assert (state is None) == (not curve)
            if state is None:
                set_up(model, TRAIN, seed=1, device=CPU)
            else:
                take_up(model, state)
            course = Course(state, keep=lambda state: write_state(state, file, OF))
            going = trained(model, chosen, course)
            if state is not None:
                assert next(going) == curve[-1] == state.curve[-1]
            curve.append(next(going))
            with evaluating(model):
                model.methods.save(folder / f"at-{len(curve)}")
            torch.rand(3)
            going.close()
            if len(curve) == len(rungs):
                after = reached(model)
    assert told(curve) == told(rungs)
    assert after.keys() == values.keys()
    assert all(torch.equal(after[key], values[key]) for key in values)


@pytest.mark.parametrize("name", QUICK)
def test_a_training_that_goes_on_from_a_rung_equals_an_unbroken_one(name: str, tmp_path: Path) -> None:
    interrupted_and_resumed_equals_unbroken(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUICK])
def test_so_does_every_method_and_hybrid_of_the_default_space(name: str, tmp_path: Path) -> None:
    interrupted_and_resumed_equals_unbroken(name, tmp_path)


def test_the_scale_of_losses_in_fp16_goes_on_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "autopeft.training.loop.scaler_of", lambda *_: torch.amp.GradScaler("cpu", 1.0, growth_interval=1)
    )
    chosen, kept, again = candidate("lora"), list[State](), list[State]()
    with classifier(chosen) as model:
        *_, whole = trained(model, chosen, Course(keep=lambda state: kept.append(deepcopy(state))))
    first, second = kept
    with classifier(chosen) as model:
        take_up(model, first)
        *_, last = trained(model, chosen, Course(first, keep=again.append))
    assert told([last]) == told([whole])
    assert first.scaler["scale"] < second.scaler["scale"]
    assert [each.scaler for each in again] == [second.scaler]


def some_state(size: int = 10) -> State:
    """Of a training of one part, whose metric gives numbers of NumPy's."""
    rung = Rung(2, 18, np.float64(0.5), 0.1, 0.7, 1.0, {"f1": np.float64(0.4)})
    part = {"trained": {"weight": torch.arange(1000.0)[:size]}, "beside": {}}
    return State(
        (rung,), [part], {"bias": torch.ones(2)}, {}, {"cpu": torch.get_rng_state()}, 2, 16, 1.0, {"seconds": 2.0}
    )


def test_a_state_is_read_as_it_was_written_and_takes_no_more_room_than_its_tensors(tmp_path: Path) -> None:
    written, file = some_state(), tmp_path / "state"
    assert write_state(written, file, OF)
    assert file.stat().st_size < 20_000 + written.random["cpu"].nbytes
    read = read_state(file, OF)
    assert read is not None
    assert (read.curve, read.told, read.bytes) == (written.curve, written.told, written.bytes)
    assert torch.equal(read.methods[0]["trained"]["weight"], written.methods[0]["trained"]["weight"])
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("content", [None, b"", b"no state", b"PK\x03\x04 half of one"])
def test_what_is_not_the_state_of_this_training_is_not_gone_on_with(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "state"
    assert read_state(file, OF) is None
    if content is None:
        write_state(some_state(), file, {"seed": 2})
    else:
        file.write_bytes(content)
    assert read_state(file, OF) is None


def test_a_state_that_would_take_much_of_the_disk_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = some_state().bytes
    for free, kept in ((20 * size - 20, False), (20 * size + 20, True)):
        monkeypatch.setattr(
            "autopeft.training.state.shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free)
        )
        assert write_state(some_state(), tmp_path / "state", OF) == kept
        assert (tmp_path / "state").exists() == kept


def test_a_full_disk_costs_the_state_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("autopeft.training.state.torch.save", full)
    assert not write_state(some_state(), tmp_path / "state", OF)
    assert not list(tmp_path.iterdir())
