"""Pages of the reference that follow from the code: a hook of mkdocs, which asks for them when it builds the site.

Command line, plan, tasks, methods, Python and REST are told where they are written: in click's commands, in the
docstrings of fields, in cards, in the classes of tasks, in the package's public names, in OpenAPI. Nothing is kept.
"""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click


def page(title: str, *paragraphs: str) -> str:
    return "\n\n".join((f"# {title}", *paragraphs)) + "\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """On one line; what would end a cell is told otherwise outside code."""
    pieces = " ".join(text.split()).split("`")
    return "`".join(piece if number % 2 else piece.replace("|", "\\|") for number, piece in enumerate(pieces))


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


def command_line() -> str:
    from autopeft.cli import main

    said = "Everything below is what the program says of itself by `--help`."
    whole = main.get_help(click.Context(main, info_name="autopeft", terminal_width=100))
    return page(
        "Command line", said, f"```text\n{whole}\n```", *(_command(name, each) for name, each in main.commands.items())
    )


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"autopeft {name}")
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    rows = [(code(_written(each, context)), _help(each, context)) for each in options]
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## {name}", f"```text\nautopeft {name} {usage}\n```", inspect.cleandoc(command.help or "")]
    if rows:
        parts.append(table(("option", "what it does"), rows))
    if command.epilog:
        parts.append(f"```text\n{inspect.cleandoc(command.epilog.replace(chr(8), '')).strip()}\n```")
    return "\n\n".join(parts)


def _written(option: click.Option, context: click.Context) -> str:
    flags = ", ".join((*option.opts, *option.secondary_opts))
    return flags if option.is_flag else f"{flags} {option.make_metavar(context)}"


def _help(option: click.Option, context: click.Context) -> str:
    default = option.get_default(context, call=False)
    told = option.show_default and not option.is_flag and isinstance(default, str | int | float)
    return (option.help or "") + (f"  [default: {default}]" if told else "")


def plan() -> str:
    from autopeft.cli.options import CALLED
    from autopeft.plan import Budget, Plan, Resources, field_docs

    def section(kind: type, heading: str, said: str) -> str:
        docs = field_docs(kind)
        rows = [
            (
                code(each.name),
                code("--" + CALLED.get((kind, each.name), each.name).replace("_", "-")),
                docs[each.name],
                _default(each),
            )
            for each in fields(kind)
            if each.name != "budget" and each.name in docs
        ]
        return f"## {heading}\n\n{said}\n\n{table(('field', 'option', 'what it says', 'default'), rows)}"

    return page(
        "Plan",
        "A plan says what you want. The same fields are options of `autopeft search`, keys of a YAML file for `--plan`,"
        " and arguments of `autopeft.search`. Options that are given beside a file come before it.",
        '```yaml title="plan.yaml"\nmodel: bert-base-uncased\ndata: reviews/\ntrials: 60\n'
        "objectives: [score, memory, trainable]\nbudget:\n  memory: 8GiB\n  trainable: 1%\n```",
        section(Plan, "What to search", "A plan is frozen, and remembered with the search."),
        section(Budget, "The budget", "Below `budget:` in a file; `autopeft.Budget(…)` in Python."),
        section(Resources, "Where it runs", "Not part of the plan: a search may be gone on with elsewhere."),
    )


def _default(field: Any) -> str:
    value = field.default if field.default is not MISSING else ""
    if value in (None, "", ()):
        return ""
    return code(",".join(value) if isinstance(value, tuple) else value)


def tasks() -> str:
    from autopeft.tasks.named import tasks as known

    parts = []
    for name, task in known().items():
        roles = [(code(role), each.kind, ", ".join(map(code, each.usual))) for role, each in task.roles.items()]
        metrics = ", ".join(code(each.name) for each in task.every_metric())
        also = f"\n\nAlso called {', '.join(map(code, task.aliases))}." if task.aliases else ""
        said = inspect.getdoc(task) or ""
        parts.append(
            f"## {name}\n\n{said}{also}\n\n{table(('role', 'holds', 'usual names of its columns'), roles)}\n\n"
            f"Metrics: {metrics}. The first one is the default, as a rule."
        )
    return page(
        "Tasks",
        "What is learned from a table. The task is guessed from the data and shown; `--task` says another one. Roles "
        "are filled by the usual names of columns, or by `--columns ROLE=NAME`. "
        "[Data](data.md) tells which files are read.",
        *parts,
    )


def methods() -> str:
    """Takes some ten seconds, in which every method is attached to a BERT-base without weights."""
    from autopeft.objectives import show
    from autopeft.reports.methods import overviews
    from autopeft.space.cards import load_cards, load_hybrids

    cards = load_cards()
    hybrids = load_hybrids(cards)
    found = overviews()
    rows = [
        (
            f"[{each.name}](#{each.name})",
            each.family,
            "" if each.trainable is None else show("trainable", each.trainable),
            "yes" if each.merges else "",
            "yes" if each.exports else "",
        )
        for each in found
    ]
    parts = []
    for each in found:
        said = f"## {each.name}\n\n{each.summary}\n\n*{each.paper}*"
        if each.name in cards:
            said += "\n\n" + _ranges(cards[each.name])
        else:
            said += "\n\nMade of " + ", ".join(f"[{one.method}](#{one.method})" for one in hybrids[each.name].parts)
        parts.append(said)
    return page(
        "Methods",
        f"All {len(found)} methods and hybrids, from their cards. *BERT-base* is how many parameters each trains on "
        "that model at its defaults; *merges* whether it can be folded into the weights, so that it costs nothing at "
        "inference; *PEFT* whether it is saved in peft's own format.",
        table(("method", "family", "BERT-base", "merges", "PEFT"), rows),
        *parts,
    )


def spaces() -> str:
    from autopeft.space.space import declared_space, named_spaces

    loaded = [declared_space(name) for name in named_spaces()]

    def linked(names: Sequence[str]) -> str:
        return ", ".join(f"[{name}](methods.md#{name})" for name in names)

    return page(
        "Spaces",
        "What a search may draw from: `--space NAME`, or a folder of your own cards "
        "([Add a method](../guides/extend.md)). `--methods` takes some of a space. What cannot be attached to a "
        "backbone, or not trained there, is left out, and the report says why.",
        *(
            f"## {each.name}\n\n{each.summary}\n\nMethods: {linked(sorted(each.methods))}."
            + (f"\n\nHybrids: {linked(sorted(each.hybrids))}." if each.hybrids else "")
            for each in loaded
        ),
    )


def _ranges(card: Any) -> str:
    from autopeft.space.parameters import label

    declared = {**card.settings, **card.training}
    rows = [(code(name), code(label(each.default)), str(each)) for name, each in declared.items()]
    return table(("setting", "default", "a search tries"), rows)


def python() -> str:
    """Every public name, told by its own docstring; what mkdocstrings reads is where the name is defined."""
    import autopeft

    parts = []
    for name in autopeft.__all__:
        value = getattr(autopeft, name)
        where = f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else f"autopeft.{name}"
        parts.append(f"::: {where}\n    options:\n      heading: autopeft.{name}\n      toc_label: {name}")
    return page(
        "Python",
        "`import autopeft` imports nothing heavy; a name is imported when it is first used. What is wrong with what you"
        " ask for is an `autopeft.AutopeftError`, whose text is the answer.",
        *parts,
    )


def rest() -> str:
    from autopeft.service.app import create_app
    from autopeft.service.settings import Settings

    with tempfile.TemporaryDirectory() as place:
        app = create_app(Settings(storage=f"sqlite:///{place}/docs.db", folder=Path(place)), keeps_queue=False)
        told = app.openapi()
        app.state.office.close()
    by_tag: dict[str, list[str]] = {}
    for path, operations in told["paths"].items():
        for verb, operation in operations.items():
            tag = next(iter(operation.get("tags", ())), "sessions")
            by_tag.setdefault(tag, []).append(_operation(verb, path, operation, told))
    return page(
        "REST",
        "The API of `autopeft serve`. A running service describes itself at `/api/v1/openapi.json`, from which clients "
        "can be made. Every request but those that say otherwise needs a token: `Authorization: Bearer …`. Errors are "
        "problem+json (RFC 9457); their `detail` is the sentence that the command line would say.",
        *(f"## {tag}\n\n" + "\n\n".join(operations) for tag, operations in by_tag.items()),
    )


def _operation(verb: str, path: str, operation: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    summary = operation.get("summary", "")
    parts = [
        f"### {summary}\n\n```http\n{verb.upper()} {path}\n```",
        inspect.cleandoc(operation.get("description", "")),
    ]
    given = [
        (code(each["name"]), each["in"], _kind(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
        if each["in"] in ("path", "query")
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    given += [
        (code(name), "body", _kind(each), each.get("description", ""))
        for name, each in _resolved(body, whole).get("properties", {}).items()
    ]
    if given:
        parts.append(table(("name", "in", "kind", "what it says"), given))
    return "\n\n".join(part for part in parts if part)


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = whole["components"]["schemas"][name] if name else schema
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    several = [_kind(each) for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return " or ".join(several) or str(schema.get("type", ""))


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/command-line.md": command_line,
    "reference/plan.md": plan,
    "reference/tasks.md": tasks,
    "reference/methods.md": methods,
    "reference/spaces.md": spaces,
    "reference/python.md": python,
    "reference/rest.md": rest,
}
"""Pages that are made, by their paths."""


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks for this when it has listed the files of `docs/`."""
    from mkdocs.structure.files import File

    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def headings(text: str) -> Iterator[str]:
    """Headings of a page, outside blocks of code."""
    inside = False
    for line in text.splitlines():
        inside ^= line.lstrip().startswith("```")
        if not inside and line.startswith("#"):
            yield line.lstrip("#").strip()
