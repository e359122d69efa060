"""A metric of one's own for answers that are JSON of entity types: `--metric benchmarks/entity_f1.py:entity_f1`."""


def entity_f1(prompt: str, answer: str, generated: str) -> float:  # noqa: ARG001 (the prompt comes first)
    """F1 of pairs of a type and an entity; 1 where there are none and none were generated, 0 of what is no JSON."""
    import json

    def pairs(text: str) -> set[tuple[str, str]] | None:
        try:
            told = json.loads(text)
            return {(str(kind), str(each)) for kind, some in told.items() for each in some}
        except (ValueError, AttributeError, TypeError):
            return None

    expected, found = pairs(answer), pairs(generated)
    if expected is None or found is None:
        return 0.0
    if not expected and not found:
        return 1.0
    return 2 * len(expected & found) / (len(expected) + len(found))
