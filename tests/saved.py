"""A tiny pretrained model with its tokenizer as a folder, as from a hub."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from autopeft.backbone.load import quietly
from tests.tiny import VOCABULARY, tiny

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def new_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Words w5, w6, … with their numbers as ids."""
    words = [*SPECIAL.values(), *(f"w{number}" for number in range(len(SPECIAL), VOCABULARY))]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **(special or SPECIAL))


def saved(
    folder: Path, architecture: str = "bert", model: PreTrainedModel | None = None, tokenizer: bool = True
) -> Path:
    """Saves a tiny model (of an architecture, or the one given) and, if wanted, a tokenizer."""
    with quietly():
        (model or tiny(architecture)).save_pretrained(folder)
        if tokenizer:
            new_tokenizer().save_pretrained(folder)
    return folder
