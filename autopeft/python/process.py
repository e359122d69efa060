"""The process of a search in the background: `python -m autopeft.python.process`, which reads what to do from stdin.

It says why it ended on its stdout, where it did not end well; all else that is printed goes to its stderr, the log.
SIGINT and SIGTERM interrupt the search as Ctrl-C does.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from typing import TextIO

from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.reports.progress import Progress
from autopeft.searching.search import search

REFUSED, INTERRUPTED = 2, 130
"""Exit codes: of an answer, and after an interruption."""


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Whoever started this may have had the terminal's signals ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        given = json.load(sys.stdin)
        with Progress() as progress:
            search(Plan.from_dict(given["plan"]), name=given["name"], on_event=progress, **given["resources"])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except AutopeftError as error:
        _tell(str(error), answer)
        sys.exit(REFUSED)


def _tell(why: str, answer: TextIO) -> None:
    print(why, file=sys.stderr)
    with suppress(OSError):  # Nobody may listen any more.
        answer.write(why)
        answer.close()


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
