"""What a report format is."""

from typing import Protocol

from autopeft.trial import SearchRecord


class Format(Protocol):
    """A module in `format/`, named like the format.

    Every format must render every record: one without trials, without baselines, without facts, still running, or with
    values that are not finite. It shows what is there and leaves out what is not.
    """

    def render(self, record: SearchRecord) -> str:
        """The whole report as text."""
