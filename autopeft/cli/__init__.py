"""The command line: one function per command, one file per group of commands, no logic of its own.

Importing it imports neither torch nor ray nor transformers, so that `--help` answers at once: commands import what they
need. Options are made from the dataclasses of `plan.py`, whose field docstrings are their help. An `AutopeftError` is
printed as one sentence with exit code 2; what ends without a result has exit code 1. Everything is printed by `say`,
but for reports, which are safe to print as they are; URLs of databases are `shown`.
"""

from autopeft.cli.catalogue import estimate, methods, spaces, tasks
from autopeft.cli.chatting import chat
from autopeft.cli.group import main
from autopeft.cli.results import delete, export, list_searches, report, select
from autopeft.cli.searching import confirm, resume, search
from autopeft.cli.serving import serve, tokens

for command in (
    *(search, resume, confirm, report, estimate, select, export, chat),
    *(list_searches, delete, serve, tokens, methods, spaces, tasks),
):
    main.add_command(command)

__all__ = ["main"]
