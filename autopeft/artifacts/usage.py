"""What an exported folder holds, and the lines of Python that load it, as its model card tells them."""

from collections.abc import Sequence
from enum import Enum

from autopeft.artifacts.reading import Reading
from autopeft.tasks.base import Task

HERE = "path/to/this/folder"
_JOINED = r'"…\n…"'
"""A pair, as Python writes it."""
_OPTIONS = {"text-classification": ", truncation=True", "token-classification": ', aggregation_strategy="first"'}
"""Of pipelines; that of words cuts texts by itself."""
_OF_WORDS = "[(word, tags[of.index(number)]) for number, word in enumerate(words) if number in of]"
_WORDS = (
    "The tag of a word is that of its first piece. Words are those of the training; of a text, autopeft takes each "
    "sign of punctuation for a word."
)


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


def usage(form: Form, task: Task, kind: str, base: str, reading: Reading) -> Sequence[str]:
    """Paragraphs and blocks of code; `kind` is the class of transformers that is there, `base` the backbone as Python
    writes its name.
    """
    if form is Form.ONNX:
        return _onnx(task, reading)
    ours = task.asks[0]
    asked = f"model.{'generate' if task.causal else 'predict'}({ours})"
    autopeft = _block("import autopeft", "", f'model = autopeft.load("{HERE}")', asked)
    at = "; where the backbone lies elsewhere now, `model=` says so" if form in (Form.METHOD, Form.PEFT) else ""
    said = [f"In autopeft, which gives answers{at}:", autopeft]
    if form is Form.WHOLE:
        return [f"In transformers, as {kind}:", *_whole(task, reading), *said]
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
    if form is Form.PEFT and task.causal:
        kind = task.auto_class.replace("AutoModel", "AutoPeftModel")
        loaded = f'{kind}.from_pretrained("{HERE}")'
        tokenizer = f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")'
        imported = (f"from peft import {kind}", "from transformers import AutoTokenizer")
        return [
            "In peft, as the language model that it is; `adapter_config.json` says where the backbone lies:",
            _block(*imported, "", f"model = {loaded}", tokenizer),
            *said,
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


def _whole(task: Task, reading: Reading) -> Sequence[str]:
    if not task.pipeline and task.causal:
        auto = task.auto_class
        return [
            _block(
                f"from transformers import {auto}, AutoTokenizer",
                "",
                f'model = {auto}.from_pretrained("{HERE}")',
                f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")',
                'made = model.generate(**tokenizer(["…"], return_tensors="pt"), max_new_tokens=128)',
                "texts = tokenizer.batch_decode(made, skip_special_tokens=True)",
            )
        ]
    if task.pipeline == "token-classification" and not reading.alike:
        auto, best = task.auto_class, "model(**made).logits[0].argmax(-1).tolist()"
        return [
            _block(
                f"from transformers import {auto}, AutoTokenizer",
                "",
                f'model = {auto}.from_pretrained("{HERE}")',
                f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")',
                *_by_words(reading, "pt"),
                f"tags = [model.config.id2label[best] for best in {best}]",
                _OF_WORDS,
            ),
            _WORDS,
            "transformers' `pipeline` cuts a text into other words than those of the training, and answers otherwise.",
        ]
    options = _OPTIONS.get(task.pipeline, "")
    every = ", top_k=None" if task.problem_type == "multi_label_classification" else ""
    called = f'ask = pipeline("{task.pipeline}", model="{HERE}"{options}{every})'
    asked = _JOINED if reading.joined else task.asks[1]
    return [_block("from transformers import pipeline", "", called, f"ask({asked})"), *_beside(task, reading)]


def _onnx(task: Task, reading: Reading) -> Sequence[str]:
    images, of_words = task.reads == "pixel_values", task.pipeline == "token-classification"
    kind, name = ("AutoImageProcessor", "processor") if images else ("AutoTokenizer", "tokenizer")
    outputs, said = "logits, probabilities", "`config.json` names the outputs (`id2label`)"
    if not task.output_names:
        outputs, said = "answers,", "its output `logits` is the number itself"
    if not reading.numbers:
        outputs = "logits, *_"
        said = "its output `logits` is what the model puts out, of which autopeft's `load` makes answers"
    if images:
        making = ['image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")']
        making.append('made = processor(image, return_tensors="np")')
    elif of_words:
        making = [*_by_words(reading, "np")]
    else:
        texts = '["…"], ["…"]' if task.asks[0].startswith("(") else '["…"]'
        texts = f"[{_JOINED}]" if reading.joined else texts
        making = [f'made = tokenizer({texts}, padding=True, truncation=True, return_tensors="np")']
    return [
        f"In onnxruntime; {said}:",
        _block(
            "import onnxruntime",
            *(["from PIL import Image, ImageOps"] if images else []),
            f"from transformers import {kind}",
            "",
            f'session = onnxruntime.InferenceSession("{HERE}/model.onnx")',
            f'{name} = {kind}.from_pretrained("{HERE}")',
            *making,
            f"{outputs} = session.run(None, {{each.name: made[each.name] for each in session.get_inputs()}})",
            *(["tags = logits[0].argmax(-1).tolist()", _OF_WORDS] if of_words else []),
        ),
        *([_WORDS] if of_words else _beside(task, reading)),
    ]


def _by_words(reading: Reading, kind: str) -> Sequence[str]:
    words = f'[f"{reading.blank}{{word}}" for word in words]' if reading.blank else "words"
    options = f'is_split_into_words=True, truncation=True, return_tensors="{kind}"'
    return 'words = ["…", "…"]', f"made = tokenizer({words}, {options})", "of = made.word_ids()"


def _beside(task: Task, reading: Reading) -> Sequence[str]:
    """What these lines do not do that autopeft does."""
    if task.reads == "pixel_values":
        return (
            "autopeft lays transparent parts of an image on white and makes 8 bits of 16; these lines do not: give "
            "them images for which that is done.",
        )
    if not reading.alike:
        return (
            "autopeft reads inputs in another way than these lines do: expect other answers than its `load` gives.",
        )
    return ()


def _block(*lines: str) -> str:
    return "\n".join(("```python", *lines, "```"))
