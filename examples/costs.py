"""What fine-tuning costs before it is done: memory by part, and what the same method costs otherwise.

    python examples/costs.py

Only a configuration is needed; here that of a BERT-base, which is made, not fetched.
"""

from transformers import BertConfig

import autopeft

MIB = 2**20


def main() -> None:
    model = BertConfig()
    for name in ("lora", "adapter", "bitfit", "ladder", "full"):
        costs = autopeft.predict(model, autopeft.method(name), batch_size=32, length=128)
        print(f"{name:<8} {costs.trainable:>11,} trained  {costs.memory / MIB:>6,.0f} MiB")

    lora = autopeft.method("lora", rank=8)
    usual = autopeft.predict(model, lora, batch_size=32, length=128)
    again = autopeft.predict(model, lora, batch_size=32, length=128, gradient_checkpointing=True)
    print("\nWhere LoRA's memory goes, and with checkpointed gradients:")
    for part, size in usual.memory_by_part.items():
        print(f"  {part:<14} {size / MIB:>6,.0f} MiB  {again.memory_by_part[part] / MIB:>6,.0f} MiB")


if __name__ == "__main__":
    main()
