"""What the backbones of several workers take of a machine's memory together: the share of each (PSS), summed.

    python -m benchmarks.mapped [--layers 12] [--width 768] [--workers 2]

A BERT-like model of random weights is stored in fp32 and in bf16. Each worker, a process of its own, loads it, reads
all of it in a forward pass, and waits until all have; then Linux is asked. `before` is what transformers makes of the
file in that dtype, as earlier versions had it; `now` is what workers of a search do.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from autopeft.backbone.load import load_backbone, quietly


def pss() -> float:
    """MiB of this process, pages that several processes have divided among them."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def work(folder: str, dtype: torch.dtype, how: str, copies: Path, meeting: Barrier, told: Any) -> None:
    """One worker: loads the model, reads all of it, and tells its share when all have."""
    torch.set_num_threads(1)
    if how != "none":
        mapped = how == "now"
        model: Any = load_backbone(folder, dtype, copies=copies).model if mapped else read(folder, dtype)
        with torch.no_grad():
            model(torch.ones(1, 8, dtype=torch.long))
            for tensor in model.parameters():
                tensor.sum()
    meeting.wait()
    told.put(pss())
    meeting.wait()


def read(folder: str, dtype: torch.dtype) -> BertModel:
    """As transformers does it."""
    with quietly():
        return BertModel.from_pretrained(folder, dtype=dtype, add_pooling_layer=False)


def together(workers: int, *what: Any) -> float:
    """MiB of so many workers."""
    context = multiprocessing.get_context("spawn")
    meeting, told = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=work, args=(*what, meeting, told)) for _ in range(workers)]
    for process in processes:
        process.start()
    shares = [told.get() for _ in processes]
    for process in processes:
        process.join()
    return float(sum(shares))


@contextmanager
def stored(layers: int, width: int) -> Iterator[dict[str, str]]:
    """Folders of one model in both dtypes, and of copies."""
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "film": 2, "book": 3}, unk_token="[UNK]"))
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")  # type: ignore[no-untyped-call]
    model: Any = BertModel(config)
    with tempfile.TemporaryDirectory() as place:
        for name in ("float32", "bfloat16"):
            with quietly():
                model.to(getattr(torch, name)).save_pretrained(f"{place}/{name}")
            tokenizer.save_pretrained(f"{place}/{name}")
        yield {name: f"{place}/{name}" for name in ("float32", "bfloat16", "copies")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 12), ("width", 768), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with stored(asked.layers, asked.width) as folders:
        copies = Path(folders["copies"])
        none = together(asked.workers, folders["float32"], torch.float32, "none", copies)
        print(f"{asked.workers} workers, MiB of the model alone (without it they take {none:,.0f})\n")
        print(f"{'stored as':<10} {'held as':<10} {'before':>8} {'now':>8}")
        for file, held in (("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")):
            how = (folders[file], getattr(torch, held))
            load_backbone(*how, copies=copies)  # As the search does that starts the workers.
            before, now = (together(asked.workers, *how, each, copies) - none for each in ("before", "now"))
            print(f"{file:<10} {held:<10} {before:>8,.0f} {now:>8,.0f}", flush=True)


if __name__ == "__main__":
    main()
