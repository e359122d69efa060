"""A trained model as users hold it: asked, it answers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autopeft.artifacts.description import Description
from autopeft.artifacts.generating import MOST, written
from autopeft.backbone.load import Backbone
from autopeft.data.store import LABELS, Dataset
from autopeft.errors import AutopeftError
from autopeft.foreign import brief, told
from autopeft.methods.attached import Attached
from autopeft.tasks.base import Task
from autopeft.tasks.heads import NO_LABEL, Batch
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, forward, repeated


class TrainedModel:
    """Backbone, method and head together, ready to predict."""

    def __init__(self, backbone: Backbone, attached: Attached | None, head: nn.Module, description: Description):
        self.description = description
        self.backbone = backbone
        self.attached = attached
        inputs = description.task.inputs
        self.model = TaskModel(backbone.model, head, attached, inputs, backbone.output).eval()

    def __repr__(self) -> str:
        made_of = ", ".join(each.name for each in self.attached.chosen) if self.attached else "merged"
        return f"<TrainedModel: {made_of}, {self.task.name}, on '{told(self.backbone.name)}'>"

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return self.description.task

    def predict(self, given: Any, batch_size: int = 32) -> Any:
        """The answer to one input, or a list of those to many, as the task gives it: the class of a text, say.

        A model of single texts takes a string or a list of strings; a model of pairs a tuple of two strings, which is
        one pair, or a list of such; a model of words a text, or a tuple of its words, or a list of such. Arrays and
        columns of tables count as lists. Raises AutopeftError for other shapes.

        >>> model.predict("a stirring, funny film")
        'positive'
        >>> model.predict(["a stirring, funny film"])
        ['positive']
        """
        if self.task.causal:
            return self.generate(given, batch_size=batch_size)
        return self._answered(given, batch_size, self.task.answers)

    def generate(
        self,
        given: Any,
        max_new_tokens: int = MOST,
        stream: Callable[[str], object] | None = None,
        batch_size: int = 32,
    ) -> Any:
        """What a language model writes after one prompt, or a list of that after many: a prompt is a text, a list of
        messages, or a row as the data has it, whose last answer is left out.

        Greedy, so that the answer is always the same, and over at the end of the text, or after that many tokens. Of
        one prompt, `stream` hears of each piece as it is written. Raises AutopeftError.

        >>> model.generate("2 + 2 =")
        ' 4'
        >>> model.generate([{"role": "user", "content": "2 + 2?"}], stream=print)
        """
        return written(self, given, max_new_tokens, batch_size, stream)

    def scores(self, given: Any, batch_size: int = 32) -> Any:
        """How sure the model is of one input, or of many, as the task gives it: the probability of every class, say.

        Raises AutopeftError where the task gives none.
        """
        return self._answered(given, batch_size, lambda output, _: self.task.scores(output))

    @property
    def longest(self) -> int:
        """Tokens that it reads of a text at most."""
        return min(self.description.max_length, self.backbone.positions or self.description.max_length)

    @torch.inference_mode()
    def logits(self, given: Any, batch_size: int = 32) -> Any:
        """What the head puts out in fp32 for inputs as `predict` takes them: rows first, of one input without; a list
        where the task has an output of its own length for each.

        Computed in the precision in which the scores of the search were measured, where the device has it.
        """
        inputs, single = self.task.asked(given)
        found = [part for part, _ in self._parts(inputs, batch_size)]
        if not found:
            return torch.empty(0, int(self.model.head.out_features))
        if single:
            return found[0][0]
        return torch.cat(found) if isinstance(found[0], Tensor) else [each for part in found for each in part]

    def _answered(self, given: Any, batch_size: int, answer: Callable[[Any, Sequence[Any]], Sequence[Any]]) -> Any:
        inputs, single = self.task.asked(given)
        found = [each for part, some in self._parts(inputs, batch_size) for each in answer(part, some)]
        return found[0] if single else found

    def _parts(self, inputs: Sequence[Any], batch_size: int) -> Iterator[tuple[Any, Sequence[Any]]]:
        """What of the head's output belongs to each of the inputs, batch by batch, beside them."""
        device = next(self.model.parameters()).device
        precision = repeated(self.description.precision, device, self.model.held)
        for output, batch, some in self.outputs(inputs, batch_size, precision):
            yield self.task.parts(output, batch, some), some

    def _told(self, batch: Batch, precision: str) -> Tensor:
        """What people are given of the head's output for a batch on the device."""
        device = next(self.model.parameters()).device
        output = forward(self.model, batch, device, precision)
        with autocast(device, precision):
            told: Tensor = self.model.head.told(output, batch)
        return told

    @torch.inference_mode()
    def loss(self, given: Any, batch_size: int = 32) -> float:
        """The mean loss over what is to be learned of one example, or of many, given as rows of the data have them.

        Of a model that generates texts it is that of the tokens of answers. Raises AutopeftError where the task's
        inputs do not hold what is to be learned.

        >>> model.loss({"prompt": "2 + 2 =", "completion": " 4"})
        0.21
        """
        inputs, _ = self.task.asked(given)
        device = next(self.model.parameters()).device
        precision = repeated(self.description.precision, device, self.model.held)
        total, count = 0.0, 0
        for batch, _ in self._batches(inputs, batch_size):
            self._require_answers(batch)
            output = forward(self.model, batch, device, precision)
            with autocast(device, precision):
                total += float(self.model.head.loss(output, batch))
            count += int(self.model.head.count(batch))
        return total / max(count, 1)

    def _require_answers(self, batch: Batch) -> None:
        labels = batch.get(LABELS)
        if not self.task.causal or labels is None:
            raise AutopeftError(f"inputs of '{self.task.name}' do not hold what is to be learned; give `predict` one.")
        if not bool((labels[:, 1:] != NO_LABEL).any(1).all()):
            raise AutopeftError(
                "a loss is one of an answer: give each example as a row of the data has it, such as "
                "{'prompt': …, 'completion': …} or {'messages': […]} with an assistant's turn."
            )

    @torch.inference_mode()
    def outputs(
        self, inputs: Sequence[Any], batch_size: int, precision: str
    ) -> Iterator[tuple[Tensor, Batch, Sequence[Any]]]:
        """What the head puts out on the CPU, batch by batch, beside what the model read of which inputs."""
        for there, some in self._batches(inputs, batch_size):
            batch = {name: tensor.cpu() for name, tensor in there.items()}
            output = self._told(there, precision).cpu()
            if not torch.isfinite(output).all():
                raise AutopeftError(
                    f"the model gives no finite numbers for these {self.task.noun}s: its weights are spoiled, or too "
                    f"large for {precision}."
                )
            yield output, batch, some

    def _batches(self, inputs: Sequence[Any], batch_size: int) -> Iterator[tuple[Batch, Sequence[Any]]]:
        """What the model reads of inputs, on its device, batch by batch, beside them."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise AutopeftError(f"batch_size must be at least 1, not {brief(batch_size)}.")
        device = next(self.model.parameters()).device
        for start in range(0, len(inputs), batch_size):
            some = inputs[start : start + batch_size]
            data = Dataset(self.task.encoded(some, self.backbone, self.longest), self.longest)
            batch = data.batch(np.arange(len(some)))
            yield {name: tensor.to(device) for name, tensor in batch.items()}, some
