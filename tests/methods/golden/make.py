"""Makes the golden values: what AdapterHub's `adapters` computes for methods that autopeft has too.

They are made once and kept; `test_golden.py` compares with them. `adapters` needs another transformers than autopeft,
and so a virtual environment of its own:

    python3.11 -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0
    /tmp/golden/bin/pip install torch==2.13.0 adapters==1.3.0
    /tmp/golden/bin/python tests/methods/golden/make.py

Beside this file, `bert.safetensors` holds a tiny BERT, a padded batch of token ids and the BERT's last states. Every
other file holds a method's weights by the names that `adapters` gives them, and the last states of that BERT with it:
of the batch (`together`), and of each of its texts without the others and without padding (`alone`, zero where the
batch is padded). All weights are random, those of the methods too, because most methods do nothing as they begin.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import adapters
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel

FOLDER = Path(__file__).parent
BERT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
LENGTHS = (9, 6, 3)
"""Real tokens of each text; the others are padding on the right."""
METHODS = {
    "houlsby": adapters.DoubleSeqBnConfig(reduction_factor=4, non_linearity="gelu"),
    "pfeiffer": adapters.SeqBnConfig(reduction_factor=4),
    "parallel": adapters.ParBnConfig(reduction_factor=4, scaling=2.0),
    "scaled_parallel": adapters.ParBnConfig(reduction_factor=4, scaling="learned"),
    "adamix": adapters.BnConfig(
        mh_adapter=False, output_adapter=True, original_ln_before=False, reduction_factor=4, non_linearity="gelu"
    ),
    "compacter": adapters.CompacterConfig(reduction_factor=4, phm_rank=2),
    # AdapterHub's own default comes after the norm, like Pfeiffer's adapter; the paper's comes where Compacter does.
    "compacter++": adapters.CompacterPlusPlusConfig(reduction_factor=4, phm_dim=2, original_ln_before=False),
    "prefix_tuning": adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=6),
    "prefix_tuning_flat": adapters.PrefixTuningConfig(prefix_length=5, flat=True),
    "lora": adapters.LoRAConfig(r=4, alpha=6),
    "mam": adapters.MAMConfig(
        adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=6), adapters.ParBnConfig(reduction_factor=4)
    ),
    "unipelt": adapters.UniPELTConfig(
        adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=6),
        adapters.SeqBnConfig(reduction_factor=4),
        adapters.LoRAConfig(r=4, alpha=2),
    ),
}
"""By the name of the method, or of its placement, in autopeft."""


def new_bert() -> BertModel:
    config = BertConfig(**BERT)
    config._attn_implementation = "eager"
    return BertModel(config, add_pooling_layer=False).eval()


@torch.no_grad()
def randomise(tensors: Mapping[str, Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name in sorted(tensors):
        tensors[name].copy_(0.3 * torch.randn(tensors[name].shape, generator=generator))
        if name.endswith("LayerNorm.weight"):
            tensors[name].add_(1.0)


def batch() -> dict[str, Tensor]:
    shape = (len(LENGTHS), max(LENGTHS))
    ids = torch.randint(5, BERT["vocab_size"], shape, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@torch.no_grad()
def states(model: BertModel) -> dict[str, Tensor]:
    together = model(**batch()).last_hidden_state
    alone = torch.zeros_like(together)
    for row, length in enumerate(LENGTHS):
        one = {name: tensor[row : row + 1, :length] for name, tensor in batch().items()}
        alone[row, :length] = model(**one).last_hidden_state[0]
    return {"together": together, "alone": alone}


def added(model: BertModel, name: str) -> Iterator[tuple[str, Tensor]]:
    for path, tensor in model.named_parameters():
        if name in path.split("."):
            yield ".".join(part for part in path.split(".") if part != name), tensor


def facts(config: Mapping[str, object]) -> dict[str, str]:
    """One entry, because several would be written in any order."""
    versions = {name: version(name) for name in ("adapters", "transformers", "torch")}
    return {"facts": json.dumps({"config": config, **versions})}


def main() -> None:
    bert = new_bert()
    backbone = dict(bert.named_parameters())
    randomise(backbone, seed=0)
    save_file({**backbone, **batch(), **states(bert)}, FOLDER / "bert.safetensors", facts(BERT))
    for seed, (name, config) in enumerate(METHODS.items(), start=1):
        model = new_bert()
        model.load_state_dict(bert.state_dict())
        adapters.init(model)
        model.add_adapter("golden", config=config, set_active=True)
        weights = dict(added(model, "golden"))
        randomise(weights, seed)
        save_file(weights | states(model.eval()), FOLDER / f"{name}.safetensors", facts(config.to_dict()))


if __name__ == "__main__":
    main()
