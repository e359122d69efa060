"""What a candidate costs, known before anything is trained and without loading any weights.

The candidate's methods are attached to the backbone's skeleton, every tensor is replaced by a fake one on the device of
the training, and one training step runs, computing nothing, under the same meter that measures real steps. Where this
process has no CUDA the step is simulated with the operations that a CPU would run. Of a deep model only shallow ones of
its layers are simulated (`depth.py`). Not covered: batches of shorter
texts, and what a method keeps outside its module (the copies that BitFit restores from).
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from math import isclose
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from autopeft.backbone.fakes import EverythingPicked, no_mask_of_ones
from autopeft.backbone.limits import require_positions
from autopeft.backbone.load import Skeleton
from autopeft.costs.calibration import CalibrationStep
from autopeft.costs.counting import bytes_of, count_of, held_of, slots_of
from autopeft.costs.depth import Profile, Shallow, extended, kinds_of_layers, shallow_models
from autopeft.costs.evaluating import EvaluationStep
from autopeft.costs.layers import NOTHING_KEPT, each_layer, kept
from autopeft.costs.meter import Meter
from autopeft.costs.step import Spent, Step
from autopeft.costs.work import EVALUATION, SET_UP, STEP, WRITING, Work
from autopeft.costs.writing import Writing, WritingStep
from autopeft.data.packing import POSITIONS
from autopeft.data.store import LABELS
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import Attached, attach, require_capable
from autopeft.methods.registry import Configured, configured_parts
from autopeft.space.candidate import Candidate, Training
from autopeft.space.cards import Card
from autopeft.tasks.base import Task
from autopeft.tasks.own_slips import slip_of
from autopeft.training.frozen import is_worth
from autopeft.training.model import States, TaskModel
from autopeft.training.precision import autocast, device_here, precision_of
from autopeft.trial import Costs

_WITHOUT_VALUES = torch.device("meta")
"""Where tensors are made whose shapes alone count."""
_SAME = 0.001
"""What may differ, as a fraction, between a deep model's counts and those that shallow ones tell of it: roundings."""


class Predictor:
    """Predicts costs of candidates on one backbone; remembers them for candidates that must cost the same."""

    def __init__(
        self,
        skeleton: Skeleton,
        cards: Mapping[str, Card],
        task: Task,
        batch_length: int,
        device: torch.device | None = None,
        longest: int | None = None,
        rows: int | None = None,
        packed: bool = False,
        learned: tuple[np.ndarray, np.ndarray] | None = None,
        writing: Writing | None = None,
    ) -> None:
        """`longest` is the longest text to be read, where that is more than `batch_length`; `rows` how many there are
        to calibrate on, where that is known. By `packed`, rows of a training hold several examples. `learned` are the
        positions that the head looks at of each row to train on, and of each to judge by, where these are not all.
        `writing` says how long texts are that models are judged by, where they write.
        """
        self._skeleton = skeleton
        self._shallow = Shallow(skeleton)
        self._cards = cards
        self._task = task
        self._batch_length = batch_length
        self._longest = max(batch_length, longest or 0)
        self._rows = rows
        self._packed = packed
        self._learned = None if learned is None else tuple(np.sort(each)[::-1] for each in learned)
        self._writing = writing
        self._device = device or device_here()
        self._known: dict[object, Profile] = {}
        self._inferences: dict[Hashable, Sequence[Work]] = {}
        self._calibrated: dict[Hashable, Sequence[Spent]] = {}
        self._last_kinds: tuple[Hashable, tuple[Hashable, ...], Mapping[str, int], bool] | None = None
        self._small: dict[Hashable, bool] = {}
        self._unfit: dict[Hashable, str | None] = {}

    def with_cards(self, cards: Mapping[str, Card]) -> Self:
        """The same, knowing and remembering together, for candidates of other cards."""
        other = copy(self)
        other._cards = cards
        return other

    @property
    def width(self) -> int:
        """Of the backbone's hidden states."""
        return self._skeleton.sites.width

    @property
    def weights(self) -> int:
        """Bytes of the backbone as it is held."""
        return bytes_of(*held_of(self._skeleton))

    def predict(self, candidate: Candidate) -> Costs:
        """Raises CannotAttach with the reason where the candidate's methods do not go on this backbone."""
        return self.predict_parts(configured_parts(candidate.parts, self._cards), candidate.training)

    def predict_parts(self, parts: Sequence[Configured], training: Training) -> Costs:
        """The same for methods that are configured already."""
        return self.profile(parts, training).costs

    def profile(self, parts: Sequence[Configured], training: Training) -> Profile:
        """What costs follow from. Raises CannotAttach with the reason."""
        key = (self._skeleton.model, _key(parts), *_key_of_step(training))
        if key not in self._known:
            self._known[key] = self._from_shallow(parts, training) or self._whole(parts, training)
        return self._known[key]

    def counts(self, candidate: Candidate) -> Mapping[str, int]:
        """The costs that need no simulation: trainable and stored. Raises CannotAttach with the reason."""
        with self._attached(self._skeleton, configured_parts(candidate.parts, self._cards)) as attached:
            return {name: value for name, value in count_of(self._skeleton, attached).items() if name != "weights"}

    def can_attach(self, parts: Sequence[Configured]) -> bool:
        """Whether methods that are configured already can be attached to this backbone; nothing is simulated."""
        try:
            self._kinds_with(parts)
        except AutopeftError:
            return False
        return True

    def refusal(self, candidate: Candidate) -> str | None:
        """Why the candidate cannot be had on this backbone, or None; nothing is simulated."""
        try:
            return self.refusal_of(configured_parts(candidate.parts, self._cards))
        except AutopeftError as error:
            return str(error)

    def unfitness(self, candidate: Candidate) -> str | None:
        """The same, found out by one simulated step too: on a single text, and on a shallow model where that stands."""
        reason = self.refusal(candidate)
        if reason is not None:
            return reason
        parts = configured_parts(candidate.parts, self._cards)
        key = _key(parts)
        if key not in self._unfit:
            self._unfit[key] = self._why_no_step(parts)
        return self._unfit[key]

    def _why_no_step(self, parts: Sequence[Configured]) -> str | None:
        skeleton = self._shallow.skeleton(self._shallow.shortest)
        if self._attaches(skeleton, parts) is not None:
            skeleton = self._skeleton
        try:
            with self._attached(skeleton, parts) as attached:
                self._step(skeleton, attached, Training(batch_size=1))
        except AutopeftError as error:
            return str(error)
        return None

    def refusal_of(self, parts: Sequence[Configured]) -> str | None:
        """The same for methods that are configured already.

        Seen on a model of one layer of each kind; on the whole one where one of the methods needs more than that.
        """
        if all(self._goes_on_small(part) for part in parts):
            return self._attaches(self._shallow.skeleton(self._shallow.shortest), parts) if len(parts) > 1 else None
        return self._attaches(self._skeleton, parts)

    def _goes_on_small(self, part: Configured) -> bool:
        key = _key([part])
        if key not in self._small:
            self._small[key] = self._attaches(self._shallow.skeleton(self._shallow.shortest), [part]) is None
        return self._small[key]

    def _attaches(self, skeleton: Skeleton, parts: Sequence[Configured]) -> str | None:
        try:
            with self._attached(skeleton, parts):
                return None
        except AutopeftError as error:
            return str(error)

    def _from_shallow(self, parts: Sequence[Configured], training: Training) -> Profile | None:
        """The profile as shallow models tell it; None where they do not, or where that is more work."""
        if shallow_models(self._shallow.kinds) is None:
            return None
        kinds, counted, keeps = self._kinds_with(parts)
        models = shallow_models(kinds)
        if models is None:
            return None
        runs, kept = models
        profiles = {run: self._of_shallow(kinds, numbers, parts, training) for run, numbers in kept.items()}
        few = profiles.pop(None)
        more = {run: profile for run, profile in profiles.items() if run is not None and profile is not None}
        if few is None or len(more) < len(profiles):
            return None
        whole = extended(runs, few, more)
        if whole is None or any(not isclose(whole.totals[name], counted[name], rel_tol=_SAME) for name in counted):
            return None
        return Profile(whole.phases, {**whole.totals, **counted, **({} if keeps else NOTHING_KEPT)})

    def _kinds_with(self, parts: Sequence[Configured]) -> tuple[tuple[Hashable, ...], Mapping[str, int], bool]:
        """The kinds of the whole model's layers with these methods, what is counted, and whether states of frozen ones
        are kept; the last ones are remembered, for training settings that vary.
        """
        key = _key(parts)
        if self._last_kinds is None or self._last_kinds[0] != key:
            with self._attached(self._skeleton, parts) as attached:
                kinds = kinds_of_layers(self._skeleton.model, self._skeleton.sites, parts)
                counted = count_of(self._skeleton, attached)
                self._last_kinds = key, kinds, counted, is_worth(len(attached.frozen), attached.depth)
        return self._last_kinds[1:]

    def _of_shallow(
        self, kinds: Sequence[Hashable], kept: Sequence[int], parts: Sequence[Configured], training: Training
    ) -> Profile | None:
        """The profile of a model with these layers; None where methods make something else of them."""
        skeleton, parts = self._shallow.skeleton(kept), self._shallow.parts(parts, kept)
        key = (skeleton.model, _key(parts), *_key_of_step(training))
        if key not in self._known:
            try:
                profile = self._simulated(skeleton, parts, training, [kinds[number] for number in kept])
            except AutopeftError:
                return None
            if profile is None:
                return None
            self._known[key] = profile
        return self._known[key]

    @contextmanager
    def _attached(self, skeleton: Skeleton, parts: Sequence[Configured]) -> Iterator[Attached]:
        model = skeleton.model
        require_capable(parts, (*self._task.needs, *(["packable"] if self._packed else [])))
        with ExitStack() as attaching:
            with _WITHOUT_VALUES:
                attached = attaching.enter_context(attach(model, parts, skeleton.sites))
            require_positions(model, self._longest, attached.prepended)
            yield attached

    def _whole(self, parts: Sequence[Configured], training: Training) -> Profile:
        profile = self._simulated(self._skeleton, parts, training)
        assert profile is not None
        return profile

    def _simulated(
        self,
        skeleton: Skeleton,
        parts: Sequence[Configured],
        training: Training,
        kinds: Sequence[Hashable] | None = None,
    ) -> Profile | None:
        """What a step and an inference show; None where the layers with the methods are not of these kinds."""
        with self._attached(skeleton, parts) as attached:
            if kinds is not None and kinds_of_layers(skeleton.model, skeleton.sites, parts) != tuple(kinds):
                return None
            spent = self._step(skeleton, attached, training)
            counted = count_of(skeleton, attached)
            left, frozen = attached.remaining, len(attached.frozen)
            keeps = kinds is not None or is_worth(frozen, attached.depth)
            calibrations = self._calibrations(skeleton, attached, parts, training)
            evaluation = self._evaluation(skeleton, attached, training)
            written = self._written(skeleton, attached, training)
        bare, *of_layers = self._inference(skeleton, ())
        totals = {
            **counted,
            "flops": spent.flops,
            "set_up_flops": sum(each.flops for each in calibrations),
            "inference_flops": self._inference(skeleton, left)[0].flops,
            "bare_flops": bare.flops,
            **(kept(sum(of_layers[:frozen], Work()), training) if keeps else NOTHING_KEPT),
            **spent.work.named(STEP),
            **evaluation.work.named(EVALUATION),
            **sum((each.work for each in calibrations), Work()).named(SET_UP),
            **sum((each.work for each in written), Work()).named(WRITING),
        }
        of_calibrations = {
            (what, (number, number_of_pass), layer): parts
            for number, each in enumerate((*calibrations, evaluation, *written))
            for (what, number_of_pass, layer), parts in each.phases.items()
        }
        return Profile({**spent.phases, **of_calibrations}, totals)

    def _inference(self, skeleton: Skeleton, parts: Sequence[Configured]) -> Sequence[Work]:
        """Work on one text, with what of the methods does not serve training only: all, and those
        of each layer.
        """
        key = (skeleton.model, _key(parts))
        if key not in self._inferences:
            if parts:
                with self._attached(skeleton, parts) as attached:
                    with _WITHOUT_VALUES:
                        attached.settle()
                    self._inferences[key] = self._forward(skeleton, attached)
            else:
                self._inferences[key] = self._forward(skeleton)
        return self._inferences[key]

    def _step(self, skeleton: Skeleton, attached: Attached, training: Training) -> Spent:
        model = self._model(skeleton, attached, training)
        step = Step(model, training, self._device, _layers(skeleton))
        trained = [*attached.parameters(), *model.head.parameters()]
        return self._read(step, trained, training.at_once)

    def _calibrations(
        self, skeleton: Skeleton, attached: Attached, parts: Sequence[Configured], training: Training
    ) -> Sequence[Spent]:
        """The methods' calibrations, whatever the batch of the training; they are not trained afterwards."""
        key = (skeleton.model, _key(parts), training.pooling)
        if key not in self._calibrated:
            model = self._model(skeleton, attached, training).train()
            all_spent = []
            for part in attached.parts:
                with _WITHOUT_VALUES, part.calibrating() as calibration:
                    if calibration is not None:
                        step = CalibrationStep(model, calibration, self._device, _layers(skeleton))
                        spent = self._read(step, calibration.tensors, calibration.batch_size)
                        examples = calibration.examples
                        share = min(self._rows or examples, examples) / max(examples, 1)
                        all_spent.append(replace(spent, work=spent.work.times(share)))
            self._calibrated[key] = all_spent
        return self._calibrated[key]

    def _evaluation(self, skeleton: Skeleton, attached: Attached, training: Training) -> Spent:
        """What the evaluation at a rung shows, whose rows may be longer than those of the training."""
        step = EvaluationStep(self._model(skeleton, attached, training), self._device, _layers(skeleton))
        rows = max(1, training.at_once * self._batch_length // self._longest)
        return self._read(step, (), rows, self._longest)

    def _written(self, skeleton: Skeleton, attached: Attached, training: Training) -> Sequence[Spent]:
        """What texts show that models are judged by; nothing where they write none."""
        if self._writing is None:
            return ()
        step = WritingStep(self._model(skeleton, attached, training), self._writing, self._device, _layers(skeleton))
        rows = self._writing.rows(training.at_once * self._batch_length)
        return (self._read(step, (), rows, self._writing.prompt),)

    def _model(self, skeleton: Skeleton, attached: Attached, training: Training) -> TaskModel:
        with _WITHOUT_VALUES:
            head = self._task.new_head(skeleton.sites.width, training)
        return TaskModel(skeleton.model, head, attached, self._task.inputs, skeleton.output)

    def _read(self, step: nn.Module, tensors: Sequence[Tensor], rows: int, length: int | None = None) -> Spent:
        """What a step shows on so many rows, with fake tensors for its own and for those that it is given; rows of the
        training, where no `length` is said.
        """
        most = self._most_learned(rows, length)
        with self._faked(step, most) as (slots, fakes):
            given = [fakes[tensor] for tensor in tensors]
            try:
                spent: Spent = functional_call(step, slots, (given, self._batch(rows, length)), tie_weights=False)
            except (AutopeftError, Warning):
                raise
            except BaseException as error:
                if (slip := slip_of(error, type(self._task))) is not None:
                    raise slip from error
                if not isinstance(error, Exception):
                    raise
                reason = " ".join(str(error).split()).rstrip(".")
                raise CannotAttach(f"no training step is possible: {reason}.") from error
        return spent

    def _forward(self, skeleton: Skeleton, attached: Attached | None = None) -> Sequence[Work]:
        features = TaskModel(skeleton.model, States(), attached, self._task.inputs).eval()
        meter = Meter(self._device)
        watched = each_layer(_layers(skeleton), meter)
        computed = autocast(self._device, precision_of(self._device, features.held))
        with self._faked(features) as (slots, _), torch.no_grad(), computed, meter, watched as of_layers:
            batch = self._batch(1, self._batch_length)
            meter.of_rows(batch.values())
            functional_call(features, slots, (batch,), tie_weights=False)
        return meter.work, *of_layers

    @contextmanager
    def _faked(
        self, module: nn.Module, most: Mapping[tuple[int, ...], int] | None = None
    ) -> Iterator[tuple[dict[str, Tensor], dict[Tensor, Tensor]]]:
        """Fake tensors for everything a module holds: by their places, and by the tensors that they stand for. `most`
        is what masks of some shapes pick at most.
        """
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        # A device that is torch's own choice anyhow would be looked at in every call: a tenth of all seconds.
        there = nullcontext() if torch.get_default_device() == self._device else self._device
        with fake, there, EverythingPicked(most), no_mask_of_ones(self._skeleton.model):
            fakes: dict[Tensor, Tensor] = {}
            slots = {}
            for name, tensor in slots_of(module):
                if tensor not in fakes:
                    fakes[tensor] = torch.empty(tensor.shape, dtype=tensor.dtype).requires_grad_(tensor.requires_grad)
                slots[name] = fakes[tensor]
            yield slots, fakes

    def _most_learned(self, rows: int, length: int | None) -> Mapping[tuple[int, ...], int]:
        """How many positions of so many rows the head looks at, at most: of the last of each row it never does."""
        if self._learned is None:
            return {}
        trained, judged = self._learned
        _, (labels, *_) = self._task.shapes(length or self._batch_length)[LABELS]
        most = int((trained if length is None else judged)[:rows].sum())
        return {(rows, labels - 1): min(max(most, 1), rows * (labels - 1))}

    def _batch(self, rows: int, length: int | None = None) -> Mapping[str, Tensor]:
        shapes = dict(self._task.shapes(length or self._batch_length))
        if self._packed and length is None:
            shapes[POSITIONS] = torch.long, (self._batch_length,)
        return {name: torch.ones((rows, *shape), dtype=dtype) for name, (dtype, shape) in shapes.items()}


def _layers(skeleton: Skeleton) -> list[nn.Module]:
    return [skeleton.model.get_submodule(path) for path in skeleton.sites.layers]


def _key(parts: Sequence[Configured]) -> Hashable:
    return tuple((part.implementation, repr(part.config), tuple(sorted(part.settings.items()))) for part in parts)


def _key_of_step(training: Training) -> tuple[Hashable, ...]:
    """What of the training settings costs depend on."""
    pieces = training.batch_size / training.at_once
    return training.at_once, pieces, training.gradient_checkpointing, training.pooling
