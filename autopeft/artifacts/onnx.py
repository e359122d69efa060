"""A trained model as one ONNX file: what the processor makes goes in, logits and probabilities come out.

Backbone, method, pooling and head are in it. Batch and sequence have any length, images the size of the processor's.
torch's exporter is asked first, then its earlier one, which traces; what either wrote counts only if onnxruntime
answers with it as the model does. Not covered: precisions other than fp32.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.artifacts.trained import TrainedModel
from autopeft.artifacts.whole import answers_of, apart
from autopeft.backbone.load import quietly
from autopeft.data.store import MASK
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.tasks.understanding import understand
from autopeft.training.model import TaskModel, as_it_is
from autopeft.training.precision import FLOAT32

FILE = "model.onnx"
LOGITS, PROBABILITIES = "logits", "probabilities"
_OPSET = 18
_APART = 1e-3
"""By how much logits may differ, as a fraction of the largest of them, or of 1: other kernels round elsewhere."""
_SHOWN = 200
"""Characters of a reason that is not ours."""
_MOST_BYTES = 1_900_000_000
"""Of weights in one file, which cannot be larger than 2 GiB; more lie in another one beside it."""
_MOST, _ROWS = 256, 16
"""Inputs by which answers are compared, at most, and at a time."""


def write_onnx(folder: Path, trained: TrainedModel, inputs: Sequence[Any]) -> None:
    """Writes the file, which says of `inputs` what the trained model says. Raises AutopeftError where that cannot be
    had.
    """
    model = _Answering(trained)
    # Of several inputs: an axis of one may be taken for one that always is.
    given = model.inputs(next(trained.outputs(trained.task.samples(trained.backbone), 2, FLOAT32))[1])
    reasons = []
    for newer in (True, False):
        try:
            with _silently(), torch.no_grad():
                _export(folder / FILE, model, given, newer)
            _compare(folder, trained, inputs)
            return
        except OSError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            reasons.append((" ".join(str(cause).split()) or type(cause).__name__)[:_SHOWN].rstrip("."))
            for each in folder.glob(f"{FILE}*"):
                each.unlink()
    raise AutopeftError(f"this model cannot be written as ONNX: {reasons[0]}; by the earlier exporter: {reasons[1]}.")


def validation_inputs(plan: Plan) -> Sequence[Any]:
    """Rows that the search judged by; none where the data are not there any more."""
    try:
        data = understand(plan.data, plan.given, plan.task, plan.seed, plan.separator)
    except AutopeftError:
        return ()
    return data.splits["validation"].inputs[:_MOST]


class _Answering(nn.Module):
    """Model and head with what comes after, called with tensors by position."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self._task = trained.task
        self.read = trained.model.read
        # What a processor makes of images is normalised already.
        self.model = TaskModel(trained.backbone.model, trained.model.head, trained.attached, as_it_is).eval()
        self.names: tuple[str, ...] = ()

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Of a batch what a processor makes, in the order of `names`."""
        given = {name: each for name, each in self.read(batch).items() if isinstance(each, Tensor)}
        self.names = tuple(sorted(given, key=("input_ids", MASK, *given).index))
        return tuple(given[name] for name in self.names)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        logits = answers_of(self._task, self.model(dict(zip(self.names, given, strict=True))))
        probabilities = self._task.probabilities(logits)
        return (logits,) if probabilities is None else (logits, probabilities)


def _export(file: Path, model: _Answering, given: tuple[Tensor, ...], newer: bool) -> None:
    """By torch's exporter, or by its earlier one. Inputs of two dimensions are texts."""
    put_out = model(*given)
    names = (LOGITS, PROBABILITIES)[: len(put_out)]
    axes = [{0: "batch", **({1: "sequence"} if each.ndim == 2 else {})} for each in given]
    if newer:
        large = sum(each.numel() * each.element_size() for each in model.parameters()) > _MOST_BYTES
        ways: dict[str, Any] = {"dynamic_shapes": (tuple(axes),), "external_data": large, "report": False}
    else:
        every = {0: "batch", **({1: "sequence"} if put_out[0].ndim == 3 else {})}
        ways = {"dynamic_axes": {**dict(zip(model.names, axes, strict=True)), **dict.fromkeys(names, every)}}
    torch.onnx.export(
        model,
        given,
        str(file),
        dynamo=newer,
        input_names=model.names,
        output_names=names,
        opset_version=_OPSET,
        verbose=False,
        **ways,
    )


def _compare(folder: Path, trained: TrainedModel, inputs: Sequence[Any]) -> None:
    """Raises ValueError where answers differ: of several inputs at a time, and of each of the first few alone."""
    import onnxruntime

    task = trained.task
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
    read = {each.name for each in session.get_inputs()}
    for rows, some in ((_ROWS, inputs), (1, inputs[:3])):
        for output, batch, _ in trained.outputs(some, rows, FLOAT32):
            given = {name: each.numpy() for name, each in trained.model.read(batch).items() if name in read}
            found, expected = session.run(None, given), answers_of(task, output)
            named = task.probabilities(expected)
            for one, other in zip(found, [expected, *([] if named is None else [named])], strict=True):
                if (by := apart(torch.from_numpy(one), other, _APART)) is not None:
                    raise ValueError(f"in onnxruntime its answers differ by {by:.2g}")


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """The exporters tell on several ways what they do, and what of it is new or old."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quietly(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
