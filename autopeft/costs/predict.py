"""What a candidate costs, known before anything is trained and without loading any weights.

The candidate's methods are attached to the backbone's skeleton, every tensor is replaced by a fake one on the device of
the training, and one training step runs, computing nothing, under the same meter that measures real steps. Where this
process has no CUDA the step is simulated with the operations that a CPU would run. Not covered: batches of shorter
texts, and what a method keeps outside its module (the copies that BitFit restores from).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from transformers import PreTrainedModel

from autopeft.backbone.load import Skeleton
from autopeft.costs.step import Step, micro_batch_size
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import Attached, attach
from autopeft.methods.registry import Configured, configured_parts
from autopeft.space.candidate import Candidate, Training
from autopeft.space.cards import Card
from autopeft.tasks.classification import TextClassification
from autopeft.tasks.classifier import Classifier
from autopeft.trial import Costs


class Predictor:
    """Predicts costs of candidates on one backbone; remembers them for candidates that must cost the same."""

    def __init__(
        self,
        skeleton: Skeleton,
        cards: Mapping[str, Card],
        labels: int,
        batch_length: int,
        device: torch.device | None = None,
    ) -> None:
        self._skeleton = skeleton
        self._cards = cards
        self._task = TextClassification([str(label) for label in range(labels)])
        self._batch_length = batch_length
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._known: dict[object, Costs] = {}

    def predict(self, candidate: Candidate) -> Costs:
        """Raises CannotAttach with the reason where the candidate's methods do not go on this backbone."""
        return self.predict_parts(configured_parts(candidate.parts, self._cards), candidate.training)

    def predict_parts(self, parts: Sequence[Configured], training: Training) -> Costs:
        """The same for methods that are configured already."""
        key = (
            tuple((part.implementation, repr(part.config), tuple(sorted(part.settings.items()))) for part in parts),
            micro_batch_size(training),
            micro_batch_size(training) < training.batch_size,
            training.gradient_checkpointing,
            training.pooling,
        )
        if key not in self._known:
            with self._attached(parts) as attached:
                self._known[key] = self._simulated(attached, training)
        return self._known[key]

    def refusal(self, candidate: Candidate) -> str | None:
        """Why the candidate cannot be had on this backbone, or None; nothing is simulated."""
        try:
            with self._attached(configured_parts(candidate.parts, self._cards)):
                return None
        except AutopeftError as error:
            return str(error)

    @contextmanager
    def _attached(self, parts: Sequence[Configured]) -> Iterator[Attached]:
        model = self._skeleton.model
        with torch.device("meta"), attach(model, parts, self._skeleton.sites) as attached:
            length, positions = attached.prepended + self._batch_length, _positions(model)
            if positions is not None and length > positions:
                raise CannotAttach(
                    f"{length} tokens ({attached.prepended} of them prepended by the method) are more than the "
                    f"{positions} positions of {type(model).__name__}."
                )
            yield attached

    def _simulated(self, attached: Attached, training: Training) -> Costs:
        head = self._task.new_head(self._skeleton.sites.width)
        classifier = Classifier(attached, head, training.pooling)
        step = Step(classifier, attached.extra_loss, self._task, training, self._device)
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device(self._device):
            fakes: dict[Tensor, Tensor] = {}
            slots = {}
            for name, tensor in _slots(step):
                if tensor not in fakes:
                    fakes[tensor] = torch.empty(tensor.shape, dtype=tensor.dtype).requires_grad_(tensor.requires_grad)
                slots[name] = fakes[tensor]
            trained = [fakes[tensor] for tensor in (*attached.parameters(), *head.parameters())]
            shape = (micro_batch_size(training), self._batch_length)
            ids = torch.ones(shape, dtype=torch.long)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            labels = torch.zeros(shape[0], dtype=torch.long)
            try:
                reading = functional_call(step, slots, (trained, inputs, labels), tie_weights=False)
            except RuntimeError as error:
                raise CannotAttach(f"no training step is possible: {error}") from error
        return Costs(attached.count, reading.memory, stored(attached), reading.flops, reading.by_part)


def _slots(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every place that holds a tensor, once even where modules are shared: `functional_call` restores those wrongly."""
    for path, inner in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, tensor in (*inner.named_parameters(recurse=False), *inner.named_buffers(recurse=False)):
            yield prefix + name, tensor


def _positions(model: PreTrainedModel) -> int | None:
    """The longest sequence that the model has positions for; None where there is no limit."""
    limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for path, module in model.named_modules():
        if (
            limit is not None
            and "position" in path
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        ):
            limit = module.num_embeddings - module.padding_idx - 1
    return limit


def stored(attached: Attached) -> int:
    """Bytes of the tensors that have to be shipped, without the head."""
    tensors = {id(tensor): tensor for part in attached.parts for tensor in part.shipped().values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
