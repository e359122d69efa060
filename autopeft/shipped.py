"""Folders that are declared outside the package and shipped with it."""

from pathlib import Path


def shipped(folder: str) -> Path:
    """`search_spaces` or `storage`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "_shipped" / folder
    return inside if inside.is_dir() else package.parent / folder
