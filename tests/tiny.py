"""Tiny models built from a config: two or three layers of width 48, seeded, nothing downloaded."""

import torch
from transformers import AutoModel, BertConfig, GPT2Config, LlamaConfig, PreTrainedModel, T5Config, T5EncoderModel

VOCABULARY = 96
WIDTH = 48

_SHAPE = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "bert": lambda: BertConfig(**_SHAPE, intermediate_size=96, max_position_embeddings=64, type_vocab_size=2),
    "llama": lambda: LlamaConfig(**_SHAPE, intermediate_size=96, max_position_embeddings=64, num_key_value_heads=2),
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64),
    "t5": lambda: T5Config(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=12, num_heads=4, num_layers=2, d_ff=96),
}


def tiny(architecture: str, seed: int = 0, layers: int = 2) -> PreTrainedModel:
    """A tiny model without a head (of T5 the encoder), in eval mode; norms and biases are not 1 and 0 any more."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = CONFIGS[architecture]()
        config.num_hidden_layers = layers
        model = T5EncoderModel(config) if isinstance(config, T5Config) else AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch(rows: int = 3, length: int = 10, seed: int = 1, padding_side: str = "right") -> dict[str, torch.Tensor]:
    """Token ids of rows of different lengths, padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (rows, length), generator=generator)
    mask = torch.ones(rows, length, dtype=torch.long)
    for row in range(1, rows):
        pad = slice(length - row, length) if padding_side == "right" else slice(0, row)
        ids[row, pad] = 0
        mask[row, pad] = 0
    return {"input_ids": ids, "attention_mask": mask}
