"""Commands of the service: serve, tokens."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from autopeft.cli.options import storage_option
from autopeft.cli.printing import say, table
from autopeft.cli.where import require_here
from autopeft.errors import AutopeftError, require_extra
from autopeft.plan import Resources, field_docs
from autopeft.sizes import parse_memory
from autopeft.storage.urls import shown

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FIRST = "first"
"""The name of the token that is made when there is none."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(
    epilog="""
\b
Examples:
  autopeft serve --demo
  autopeft serve --data-root ~/data --model-root ~/models --at-once 2 --workers 1
  autopeft serve --storage postgresql+psycopg://autopeft:…@db/autopeft --folder /shared/autopeft-runs --hub
  curl -H "Authorization: Bearer $AUTOPEFT_TOKEN" http://127.0.0.1:8000/api/v1/searches

At its first start it prints a token, once; `autopeft tokens` makes more, and revokes them. Searches run in processes of
their own: they outlive a service that is killed, and go on when it is started again. The API is described at
/api/v1/openapi.json. Only this machine can reach the service unless --host says more; put it behind a proxy with TLS
then.
"""
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port.")
@click.option("--data-root", "data_roots", type=_FOLDER, multiple=True, help="A folder in which plans may name data.")
@click.option("--model-root", "model_roots", type=_FOLDER, multiple=True, help="The same for models.")
@click.option("--hub", is_flag=True, help="Plans may name models and data of the hub, too.")
@click.option("--demo", is_flag=True, help="Offer the packaged small model and data set.")
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="CODE",
    help="Code that plans may name: a task or metric such as my_task.py:MyTask, or a folder of cards.",
)
@click.option("--trust-remote-code", is_flag=True, help="Plans may ask for code that comes with a model.")
@click.option("--at-once", type=click.IntRange(1), default=1, show_default=True, help="Searches that run at a time.")
@click.option("--workers", type=click.IntRange(0), help=f"Of each search: {field_docs(Resources)['workers']}")
@click.option("--address", help=f"Of each search: {field_docs(Resources)['address']}")
@click.option("--upload-limit", metavar="SIZE", default="1GiB", show_default=True, help="Largest file to be uploaded.")
@storage_option
@click.option("--folder", default=Resources.folder, show_default=True, help=field_docs(Resources)["folder"])
def serve(host: str, port: int, demo: bool, upload_limit: str, folder: str, **options: Any) -> None:
    """Serve searches to a team: a queue, an API and pages behind one address."""
    require_extra("service")
    from autopeft.service.serving import serve as serve_app
    from autopeft.service.settings import Settings
    from autopeft.space.space import declared_space

    if demo:
        from autopeft.data.demo import demo_data, demo_model

        options["model_roots"] += (demo_model().parent,)
        options["data_roots"] += (demo_data(Path(folder) / "demo").parent,)
    settings = Settings(folder=Path(folder), upload_limit=int(parse_memory(upload_limit)), **options)
    for each in settings.trusted_as("space"):
        declared_space(each)
    first = _first_token(settings.storage)
    if first:
        say(f"A token, which nobody tells again; keep it well:\n\n  {first}\n")
    if host not in _LOOPBACK:
        say("Others can reach this address: put a proxy with TLS before it, else tokens can be read on the way.")
    sys.stdout.flush()
    serve_app(settings, host, port)


@click.command()
@click.option("--add", metavar="NAME", help="Make a token of this name, and print it once.")
@click.option("--role", default="run", show_default=True, help="What it may: read, or run, which includes to read.")
@click.option("--revoke", metavar="NAME", help="Let a token, and sessions that it began, count no longer.")
@storage_option
def tokens(add: str | None, role: str, revoke: str | None, storage: str) -> None:
    """List the tokens of the service, make one, or revoke one."""
    from autopeft.storage.database import file_of, read_url
    from autopeft.storage.opened import Opened
    from autopeft.storage.tokens import Tokens

    require_here("ask its operator")
    if add is not None and revoke is not None:
        raise AutopeftError("--add and --revoke are two commands; give one at a time.")
    file = file_of(read_url(storage))
    if add is None and file is not None and not file.exists():
        raise AutopeftError(f"there is no database {shown(storage)}; give that of the service by --storage.")
    with closing(Opened(storage)) as opened:
        known = Tokens(opened)
        if add is not None:
            say(known.add(add, role))
        elif revoke is not None:
            known.revoke(revoke)
            say(f"Revoked: {revoke}.")
        elif found := known.all():
            rows = [
                (each.name, each.role, f"{each.created.astimezone():%Y-%m-%d}", "revoked" if each.revoked else "good")
                for each in found
            ]
            table(("name", "role", "made", "state"), rows)
        else:
            say(f"No tokens in {shown(storage)}.")


def _first_token(storage: str) -> str | None:
    """A token where there is none that counts."""
    from autopeft.searching.whereabouts import free_name
    from autopeft.storage.opened import Opened
    from autopeft.storage.tokens import RUN, Tokens

    with closing(Opened(storage)) as opened:
        known = Tokens(opened).all()
        if any(each.revoked is None for each in known):
            return None
        return Tokens(opened).add(free_name(_FIRST, [each.name for each in known]), RUN)
