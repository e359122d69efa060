"""What an exported folder holds, and the lines of Python that load it, as its model card tells them."""

from collections.abc import Sequence
from enum import Enum

from autopeft.tasks.base import Task

HERE = "path/to/this/folder"


class Form(Enum):
    """What an exported folder holds."""

    METHOD = "method"
    """The method's tensors and the head."""
    PEFT = "peft"
    """The same, where peft reads the method."""
    BACKBONE = "backbone"
    """The backbone with the method merged into its weights, and the head beside it."""
    WHOLE = "whole"
    """A class of transformers, head and all."""
    ONNX = "onnx"
    """One file for onnxruntime."""


def usage(form: Form, task: Task, kind: str, base: str) -> Sequence[str]:
    """Paragraphs and blocks of code; `kind` is the class of transformers that is there, `base` the backbone as Python
    writes its name.
    """
    if form is Form.ONNX:
        return _onnx(task)
    ours, theirs = task.asks
    autopeft = _block("import autopeft", "", f'model = autopeft.load("{HERE}")', f"model.predict({ours})")
    at = "; where the backbone lies elsewhere now, `model=` says so" if form in (Form.METHOD, Form.PEFT) else ""
    said = [f"In autopeft, which gives answers{at}:", autopeft]
    if form is Form.WHOLE:
        options = ', aggregation_strategy="first"' if task.pipeline == "token-classification" else ""
        every = ", top_k=None" if task.problem_type == "multi_label_classification" else ""
        called = [f'ask = pipeline("{task.pipeline}", model="{HERE}"{options}{every})', f"ask({theirs})"]
        asking = _block("from transformers import pipeline", "", *called)
        return [f"In transformers, as {kind}:", asking, *_on_pairs(task), *said]
    if form is Form.BACKBONE:
        plain = f'backbone = AutoModel.from_pretrained("{HERE}")'
        without = f" as {task.auto_class}" if task.auto_class else ""
        return [
            *said,
            f"**transformers alone gives states, not answers.** The head is in `head.safetensors`, and no class of "
            f"transformers computes what it does; the folder cannot be loaded{without}. ONNX holds the head, too "
            "(`autopeft export … --onnx`).",
            _block("from transformers import AutoModel", "", plain),
        ]
    if form is Form.PEFT:
        bare = f"backbone = AutoModel.from_pretrained({base})"
        states = f'model = PeftModel.from_pretrained(backbone, "{HERE}")'
        return [
            *said,
            "**peft alone gives states, not answers**: it knows nothing of the head, which is in `head.safetensors`.",
            _block("from peft import PeftModel", "from transformers import AutoModel", "", bare, states),
        ]
    return [*said, "peft does not have this method: neither peft nor transformers loads this folder."]


def _onnx(task: Task) -> Sequence[str]:
    images = task.reads == "pixel_values"
    kind, name = ("AutoImageProcessor", "processor") if images else ("AutoTokenizer", "tokenizer")
    asked = 'Image.open("photo.jpg").convert("RGB")' if images else '["…"], padding=True, truncation=True'
    several = '["…"], ["…"], padding=True, truncation=True' if task.asks[0].startswith("(") else asked
    outputs, said = "logits, probabilities", "`config.json` names the outputs (`id2label`)"
    if not task.output_names:
        outputs, said = "answers,", "its output `logits` is the number itself"
    return [
        f"In onnxruntime; {said}:",
        _block(
            "import onnxruntime",
            *(["from PIL import Image"] if images else []),
            f"from transformers import {kind}",
            "",
            f'session = onnxruntime.InferenceSession("{HERE}/model.onnx")',
            f'{name} = {kind}.from_pretrained("{HERE}")',
            f'made = {name}({several}, return_tensors="np")',
            f"{outputs} = session.run(None, {{each.name: made[each.name] for each in session.get_inputs()}})",
        ),
        *_on_pairs(task),
    ]


def _on_pairs(task: Task) -> Sequence[str]:
    """As `tasks.texts` encodes them."""
    if not task.asks[0].startswith("("):
        return ()
    return ("If its tokenizer puts nothing between two texts, as GPT-2's, give them as one, joined by a line break.",)


def _block(*lines: str) -> str:
    return "\n".join(("```python", *lines, "```"))
