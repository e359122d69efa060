"""Text of others (labels, columns, file names, values from a file) on its way to people.

Bounded, whatever it holds: a value with a million nested parts is cut before it is formatted. Harmless: what a terminal
would obey instead of showing (escape sequences, changes of direction, which are a way to lie) is shown escaped.
"""

import reprlib
import unicodedata

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's control and format characters, halves of characters, separators of lines and of paragraphs."""
_JOINERS = "\u200c\u200d"
"""Format characters that only join letters and emoji, and that people write."""


def printable(text: str, keep: str = "\n") -> str:
    """The text with control characters escaped, but for those to `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in keep or character in _JOINERS or unicodedata.category(character) not in _OBEYED
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def brief(value: object, most: int = 60) -> str:
    """A value as it is shown in an error: on one line, of at most so many characters, by bounded work."""
    shown = _Brief(most).repr(value)
    whole = " ".join(shown.split())
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def told(value: object, most: int = 100) -> str:
    """A wrong value as it is told: a text without quotes, whatever else cut short."""
    return value if isinstance(value, str) and len(value) <= most else brief(value, most)


class _Brief(reprlib.Repr):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = 4 * most
        self.maxlong = most
        self.maxlevel = 3

    def repr_bytes(self, value: bytes, level: int) -> str:  # noqa: ARG002 (called by name)
        return repr(value[: self.maxstring])

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write whole numbers of some thousand digits."""
        digits = value.bit_length() * 30103 // 100000
        return super().repr_int(value, level) if digits < 1000 else f"a whole number of about {digits:,} digits"
