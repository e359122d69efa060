"""Tiny encoders with decoders: relative positions and norms before sub-layers (T5), the reverse (BART), and sinusoids
with logits of their own (Marian)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers

from autopeft.backbone.load import quietly

_ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
_SHAPE = {f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in (("ffn_dim", 96), ("layers", 2))}
_HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "d_model": 48, "max_position_embeddings": 64}
CONFIGS: Mapping[str, Callable[[], t.PretrainedConfig]] = {
    "t5": lambda: t.T5Config(
        vocab_size=96, d_model=48, d_kv=12, num_heads=4, num_layers=2, d_ff=96, **{**_ENDS, "decoder_start_token_id": 0}
    ),
    "bart": lambda: t.BartConfig(vocab_size=96, **_SHAPE, **_HEADS, **_ENDS),
    "marian": lambda: t.MarianConfig(vocab_size=96, decoder_vocab_size=96, **_SHAPE, **_HEADS, **_ENDS),
}
NAMES = {"Anna": "apples", "Ben": "bread", "Clara": "cheese", "David": "dates"}


def config_of(name: str, layers: int = 2) -> Any:
    config: Any = CONFIGS[name]()
    for each in ("num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"):
        if hasattr(config, each):
            setattr(config, each, layers)
    return config


def whole(name: str, layers: int = 2) -> Any:
    """A model with its head, whose likeliest tokens vary; nothing of it is 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = t.AutoModelForSeq2SeqLM.from_config(config_of(name, layers)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape))
    return model


def folder_of(name: str, folder: Path) -> Path:
    """A model with a tokenizer that puts an end after texts only where somebody asks for it."""
    words = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "likes", *NAMES, *NAMES.values())
    vocabulary = {word: number for number, word in enumerate((*words, *(f"w{n}" for n in range(96 - len(words)))))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    with quietly():
        t.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
        whole(name).save_pretrained(folder)
    return folder
