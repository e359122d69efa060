"""A method without a search: attached to a transformers model, trained by a loop of your own, and taken off again.

python examples/own_loop.py
"""

import csv
import tempfile
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

import autopeft
from autopeft.data.demo import demo_data, demo_model

STEPS = 20


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place, demo_data(Path(place)).open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    classes = sorted({row["section"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(demo_model())
    model = AutoModel.from_pretrained(demo_model())
    before = {name: value.clone() for name, value in model.state_dict().items()}

    attached = autopeft.attach(model, autopeft.method("lora", rank=8, sites=["q", "v"]))
    head = nn.Linear(model.config.hidden_size, len(classes))
    optimizer = torch.optim.AdamW([*attached.parameters(), *head.parameters()], lr=2e-3)
    print(f"{attached.count:,} parameters are trained")
    for step in range(STEPS):
        some = [rows[place] for place in torch.randint(len(rows), (32,)).tolist()]
        batch = tokenizer([row["headline"] for row in some], padding=True, return_tensors="pt")
        states = attached.model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        output = head((states * mask).sum(1) / mask.sum(1))
        loss = nn.functional.cross_entropy(output, torch.tensor([classes.index(row["section"]) for row in some]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 5 == 0 or step == STEPS - 1:
            print(f"step {step:>2}: loss {loss.item():.3f}")

    attached.detach()
    same = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    print(f"afterwards the model is what it was: {same}")


if __name__ == "__main__":
    main()
