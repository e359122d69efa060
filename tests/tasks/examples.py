"""For every task a tiny model in a folder, and rows as a user has them. A new task is taken in by itself: its rows are
made of its roles, its model is by what it reads. Only a new kind of column, or of model, needs an entry here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from autopeft.backbone.load import quietly
from autopeft.data import columns
from autopeft.tasks.base import Task
from tests.pictures import COLOURS, SIDE, photograph

LAYERS = 6
"""As few as the hybrid S4 can be had on."""
_SIZES: Mapping[str, Any] = {"hidden_size": 32, "num_attention_heads": 4}
_HALF = {"attention_heads": 4, "ffn_dim": 64}
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORDS = ("film", "good", "fair", "bad", "long", "##er", "##est", *(f"w{number}" for number in range(20)))
NAMES = ("bad", "fair", "good")


def model_of_texts(folder: Path, layers: int = LAYERS) -> None:
    """A BERT that tells two types of tokens apart; its tokenizer cuts some words into pieces, and frames a text."""
    vocabulary = {word: number for number, word in enumerate((*_SPECIAL, *_WORDS))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    t.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
    shape = {**_SIZES, "num_hidden_layers": layers, "intermediate_size": 64, "max_position_embeddings": 64}
    config = t.BertConfig(**shape, vocab_size=len(vocabulary))
    _save(t.BertModel(config, add_pooling_layer=False), folder)


def model_of_images(folder: Path, layers: int = LAYERS) -> None:
    """A DINOv2, which has a mask token that nothing of a trained task depends on."""
    shape = {**_SIZES, "num_hidden_layers": layers, "mlp_ratio": 2, "image_size": SIDE, "patch_size": 8}
    config = t.Dinov2Config(**shape, layerscale_value=0.5)
    t.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    _save(t.Dinov2Model(config), folder)


def _save(model: t.PreTrainedModel, folder: Path) -> None:
    """Not as it was made: norms and biases that are 1 and 0 would hide mistakes."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    with quietly():
        model.save_pretrained(folder)


def model_that_goes_on(folder: Path, layers: int = LAYERS) -> None:
    """A Llama whose output embedding has weights of its own; its tokenizer frames nothing, and has no chat template."""
    vocabulary = {word: number for number, word in enumerate((*_SPECIAL, *_WORDS))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    t.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
    shape = {**_SIZES, "num_hidden_layers": layers, "intermediate_size": 64, "max_position_embeddings": 64}
    config = t.LlamaConfig(**shape, num_key_value_heads=2, vocab_size=len(vocabulary), tie_word_embeddings=False)
    _save(t.LlamaForCausalLM(config), folder)


def model_that_makes_texts_of_texts(folder: Path, layers: int = LAYERS) -> None:
    """A BART, half of whose layers are its decoder's, which adds something to its logits; an end is put after texts."""
    vocabulary = {word: number for number, word in enumerate((*_SPECIAL, *_WORDS))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    t.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    shape = {f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in _HALF.items()}
    shape |= {f"{part}_layers": layers // 2 for part in ("encoder", "decoder")}
    config = t.BartConfig(**shape, **ends, d_model=32, vocab_size=len(vocabulary), max_position_embeddings=64)
    model = t.BartForConditionalGeneration(config)
    model.final_logits_bias += 0.1
    _save(model, folder)


MODELS: Mapping[str, Callable[..., None]] = {
    "input_ids": model_of_texts,
    "pixel_values": model_of_images,
    "causal": model_that_goes_on,
    "crossed": model_that_makes_texts_of_texts,
}
"""By the main input of the models that a task is learned with, those that go on with a text, and with another one."""
_USED = {"text-generation": ("completion", "prompt")}
_CALLED: Mapping[str, Mapping[str, str]] = {"text2text-generation": {"target": "summary", "text": "document"}}
"""Roles of usual rows, of tasks whose rows may have several forms."""


def _words(number: int) -> list[str]:
    """One to twelve, some of them of several pieces, and one that the class of the row can be told from."""
    words = [("film", "longer", "longest", f"w{(number + place) % 20}")[place % 4] for place in range(number * 5 % 12)]
    return [*words, NAMES[number % 3]]


def _tags(number: int) -> list[str]:
    return [f"B-{word}" if word in NAMES else "O" for word in _words(number)]


def _picture(number: int, folder: Path) -> str:
    place = folder / f"{number}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    photograph([*COLOURS][number % 3], number, size=(20 + number % 9, 30)).save(place)
    return str(place)


def _cell(kind: str, role: str, number: int, folder: Path) -> Any:
    """What a column of this kind holds in a row; files go into the folder."""
    match kind:
        case columns.TEXT:
            return " ".join(_words(number))
        case columns.CATEGORY:
            return NAMES[number % 3]
        case columns.CATEGORIES:
            return sorted({NAMES[number % 3], NAMES[number % 4 % 3]})
        case columns.NUMBER:
            return number % 3 + number * 7 % 40 / 80
        case columns.WORDS:
            return _tags(number) if role == "tags" else _words(number)
        case columns.IMAGE:
            return _picture(number, folder)
    raise NotImplementedError(f"say here what a cell of the kind '{kind}' looks like")


def kind_of_model(task: type[Task]) -> str:
    """What it is learned with, one of `MODELS`."""
    return next((need for need in ("crossed", "causal") if need in task.needs), task.reads)


def _roles(task: type[Task]) -> Mapping[str, columns.Role]:
    return {name: role for name, role in task.roles.items() if name in _USED.get(task.name, task.roles)}


def row_of(task: type[Task], number: int, folder: Path) -> dict[str, Any]:
    """A row for a task, its columns called as usual."""
    return {_called(task, name): _cell(role.kind, name, number, folder) for name, role in _roles(task).items()}


def columns_of(task: type[Task]) -> dict[str, tuple[str, ...]]:
    """The columns of such rows, by role."""
    return {name: (_called(task, name),) for name in _roles(task)}


def _called(task: type[Task], role: str) -> str:
    return _CALLED.get(task.name, {}).get(role, task.roles[role].names[0])


def made_for(task: type[Task], folder: Path, train: int = 24, validation: int = 12) -> Path:
    """Fills a folder with `model/` and `data/`."""
    MODELS[kind_of_model(task)](folder / "model")
    data = folder / "data"
    data.mkdir()
    first = 0
    for split, count in (("train", train), ("validation", validation)):
        rows = [row_of(task, number, data) for number in range(first, first + count)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        first += count
    return folder
