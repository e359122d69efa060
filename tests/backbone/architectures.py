"""Tiny configurations of the architectures whose sites must be found, and of some that are none of theirs."""

import torch
import transformers as t
from torch import nn

from autopeft.backbone.load import quietly, without_pooler

_SHAPE = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_DENSE = {**_SHAPE, "intermediate_size": 96, "max_position_embeddings": 64}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_DENSE, "num_key_value_heads": 2}
_GPT = {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
_EXPERTS = {"num_experts_per_tok": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_T5 = {"vocab_size": 96, "d_model": 48, "d_kv": 12, "num_heads": 4, "num_layers": 2, "d_ff": 96}
_OPT = {**_SHAPE, "ffn_dim": 96, "max_position_embeddings": 64}
_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}

ARCHITECTURES = {
    "bert": lambda: t.BertConfig(**_DENSE),
    "roberta": lambda: t.RobertaConfig(**_DENSE),
    "xlm-roberta": lambda: t.XLMRobertaConfig(**_DENSE),
    "distilbert": lambda: t.DistilBertConfig(
        vocab_size=96, dim=48, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=64
    ),
    "electra": lambda: t.ElectraConfig(**_DENSE, embedding_size=24),
    "mpnet": lambda: t.MPNetConfig(**_DENSE),
    "albert": lambda: t.AlbertConfig(**_DENSE, embedding_size=24),
    "deberta": lambda: t.DebertaConfig(**_DENSE, **_DISENTANGLED),
    "deberta-v2": lambda: t.DebertaV2Config(
        **_DENSE, **_DISENTANGLED, position_buckets=16, share_att_key=True, norm_rel_ebd="layer_norm"
    ),
    "modernbert": lambda: t.ModernBertConfig(**_DENSE, **_TOKENS, cls_token_id=1, sep_token_id=2, local_attention=4),
    "mobilebert": lambda: t.MobileBertConfig(**_SHAPE, intermediate_size=96),
    "t5": lambda: t.T5Config(**_T5),
    "t5-gated": lambda: t.T5Config(**_T5, feed_forward_proj="gated-gelu"),
    "umt5": lambda: t.UMT5Config(**_T5),
    "llama": lambda: t.LlamaConfig(**_GROUPED),
    "mistral": lambda: t.MistralConfig(**_GROUPED, head_dim=12, sliding_window=4),
    "qwen2": lambda: t.Qwen2Config(**_GROUPED),
    "qwen3": lambda: t.Qwen3Config(**_GROUPED, head_dim=16),
    "gemma": lambda: t.GemmaConfig(**_DENSE, num_key_value_heads=1, head_dim=12),
    "gemma3": lambda: t.Gemma3TextConfig(**_DENSE, num_key_value_heads=1, head_dim=12, sliding_window=4),
    "phi": lambda: t.PhiConfig(**_DENSE),
    "phi3": lambda: t.Phi3Config(**_GROUPED, **_TOKENS),
    "gpt2": lambda: t.GPT2Config(**_GPT),
    "gptj": lambda: t.GPTJConfig(**_GPT, rotary_dim=4),
    "codegen": lambda: t.CodeGenConfig(**_GPT, rotary_dim=4),
    "gpt_neox": lambda: t.GPTNeoXConfig(**_DENSE),
    "opt": lambda: t.OPTConfig(**_OPT, word_embed_proj_dim=48),
    "opt-350m": lambda: t.OPTConfig(**_OPT, word_embed_proj_dim=24, do_layer_norm_before=False),
    "bloom": lambda: t.BloomConfig(vocab_size=96, hidden_size=48, n_layer=2, n_head=4),
    "falcon": lambda: t.FalconConfig(**_SHAPE, max_position_embeddings=64),
    "falcon-alibi": lambda: t.FalconConfig(**_SHAPE, alibi=True, multi_query=False, parallel_attn=False),
}
"""Name -> its configuration: two layers of width 48."""
_IMAGE = {"image_size": 32, "patch_size": 8}
_PATCHES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, **_IMAGE}
_DINO = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2, **_IMAGE}
_STAGES = {"image_size": 32, "patch_size": 4, "embed_dim": 24, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4}
IMAGES = {
    "vit": lambda: t.ViTConfig(**_PATCHES),
    "vit-msn": lambda: t.ViTMSNConfig(**_PATCHES),
    "deit": lambda: t.DeiTConfig(**_PATCHES),
    "dinov2": lambda: t.Dinov2Config(**_DINO, layerscale_value=0.5),
    "dinov2-gated": lambda: t.Dinov2Config(**_DINO, use_swiglu_ffn=True),
    "dinov2-registers": lambda: t.Dinov2WithRegistersConfig(**_DINO),
    "dinov3": lambda: t.DINOv3ViTConfig(**_PATCHES),
    "beit": lambda: t.BeitConfig(**_PATCHES),
    "data2vec": lambda: t.Data2VecVisionConfig(**_PATCHES),
    "clip": lambda: t.CLIPVisionConfig(**_PATCHES),
    "siglip": lambda: t.SiglipVisionConfig(**_PATCHES, vision_use_head=False),
    "swin": lambda: t.SwinConfig(**_STAGES),
    "swinv2": lambda: t.Swinv2Config(**_STAGES),
}
"""The same of models that read images of 32 x 32; those of Swin have two stages, the first half as wide."""
EVERY = {**ARCHITECTURES, **IMAGES}
EXPERTS = {
    "mixtral": lambda: t.MixtralConfig(**{**_GROUPED, "intermediate_size": 64}, **_EXPERTS, num_local_experts=4),
    "qwen3_moe": lambda: t.Qwen3MoeConfig(**_GROUPED, **_EXPERTS, num_experts=4, moe_intermediate_size=32, head_dim=12),
}
"""The same of mixtures of experts."""


def new(name: str, seed: int = 0, layers: int | None = None) -> t.PreTrainedModel:
    """A seeded model without a head, in eval mode; of T5 the encoder, of images without a pooler."""
    config = EVERY[name]()
    config.num_hidden_layers = layers or config.num_hidden_layers
    with torch.random.fork_rng(), quietly():
        torch.manual_seed(seed)
        kind = {"t5": t.T5EncoderModel, "mt5": t.MT5EncoderModel, "umt5": t.UMT5EncoderModel}.get(config.model_type)
        model = kind(config) if kind else t.AutoModel.from_config(config)
        return (without_pooler(model) if name in IMAGES else model).eval()


def inputs(name: str, rows: int = 2) -> dict[str, torch.Tensor]:
    """Random texts of 8 tokens, or images."""
    generator = torch.Generator().manual_seed(0)
    if name in IMAGES:
        return {"pixel_values": torch.randn((rows, 3, 32, 32), generator=generator)}
    ids = torch.randint(5, 96, (rows, 8), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Stranger(nn.Module):
    """A model with names of its own, as research code has them; its layers are pre-norm."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.tokens = nn.Embedding(96, width)
        self.stack = nn.ModuleList(StrangeLayer(width) for _ in range(2))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states = self.tokens(input_ids)
        for layer in self.stack:
            states = layer(states)
        return states


class StrangeLayer(nn.Module):
    """One head of attention, then two linear maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.alpha, self.beta, self.gamma, self.delta = (nn.Linear(width, width) for _ in range(4))
        self.between = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        x = self.before(states)
        scores = self.alpha(x) @ self.beta(x).transpose(1, 2) / x.shape[-1] ** 0.5
        states = states + self.delta(scores.softmax(-1) @ self.gamma(x))
        return states + self.narrow(torch.relu(self.wide(self.between(states))))
