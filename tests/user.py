"""What a user has: a model in a folder and a file of labelled texts; tiny, and learnable from single words."""

import csv
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny import VOCABULARY, tiny

GOOD, BAD = ("good", "fine", "great"), ("bad", "poor", "awful")
WORDS = ("[PAD]", "[UNK]", *GOOD, *BAD, "film", "book", "song", "the", "a", "was", "is")


def user_folder(folder: Path) -> Path:
    """Fills a folder with `model/` (a tiny BERT and its tokenizer) and `reviews.csv` (review, opinion; 120 rows)."""
    tiny("bert").save_pretrained(folder / "model")
    vocabulary = {
        word: number for number, word in enumerate((*WORDS, *(f"w{i}" for i in range(VOCABULARY - len(WORDS)))))
    }
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder / "model")
    with (folder / "reviews.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["review", "opinion"])
        for number in range(120):
            opinion = "positive" if number % 2 else "negative"
            word = (GOOD if number % 2 else BAD)[number // 2 % 3]
            noun = ("film", "book", "song")[number // 6 % 3]
            writer.writerow([f"the {noun} w{number % 60} was {word} w{number // 2 % 50}", opinion])
    return folder
