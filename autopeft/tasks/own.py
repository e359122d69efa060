"""A user's own task or metric, by reference: `my_task.py:MyTask`, or `package.module:name` where Python finds that.

It is code, which may do anything, so it runs only where its user names it: in a plan, by an option, or by
`autopeft.register`. What a database or a trained method names is looked up among what was named so in this program, and
imported by nobody. Nothing here imports torch by itself, so that slips are answered at once.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.tasks.names import parsed

_PACKAGE = __name__.partition(".")[0]
"""Whose code is nobody's own."""
_ENDING = ".py"

_named: dict[str, Any] = {}
"""What was named in this program, by its references."""
_held: set[str] = set()
"""References of what the user holds in his hands; it is not executed again."""
_texts: dict[str, str] = {}
"""The source of modules that were read from files, by their names."""


class NotNamed(AutopeftError):
    """Somebody else than the user, such as a database or a folder, names code of one's own."""


@dataclass(frozen=True)
class Code:
    """A module of a user's own on its way to another process, which need not have its file."""

    module: str
    file: str
    text: str

    def define(self) -> ModuleType:
        """The module, executed where it is not there yet. Raises AutopeftError for what its code raises."""
        if self.module in sys.modules:
            return sys.modules[self.module]
        made = ModuleType(self.module)
        made.__file__ = self.file
        sys.modules[self.module] = made
        _texts[self.module] = self.text
        try:
            exec(compile(self.text, self.file, "exec"), made.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[self.module]
            raise AutopeftError(f"'{self.file}' cannot be imported: {_said(error, self.file)}.") from error
        return made


def is_own(reference: str) -> bool:
    """Whether this is a reference, not the name of a task or metric."""
    return ":" in reference or reference.endswith(_ENDING)


def name_in(reference: str) -> str:
    """What a reference names in its file or module; a plain name as it is."""
    return reference.rpartition(":")[2]


def rooted(reference: str) -> str:
    """The reference with its file from the root, so that it means the same from anywhere."""
    where, _, name = reference.rpartition(":")
    return f"{Path(where).expanduser().absolute()}:{name}" if where.endswith(_ENDING) else reference


def require_own(reference: str, what: str) -> None:
    """Raises AutopeftError for a reference that leads nowhere; nothing of it is executed, but packages around it."""
    if reference not in _named:
        defined_as(reference, what)


def defined_as(reference: str, what: str) -> str:
    """Whether a reference names a "class" or a "function"; empty where that cannot be told without executing it. Raises
    AutopeftError for one that leads nowhere.
    """
    where, _, name = reference.rpartition(":")
    if not where or not name.isidentifier():
        raise AutopeftError(
            f"{what} {brief(reference)} names no code: write my_{what}.py:NAME, or package.module:NAME."
        )
    if where in sys.modules:
        return ""
    text, file = (_text_of(Path(where)), where) if where.endswith(_ENDING) else _text_of_module(where, name, what)
    try:
        tree = parsed(text, file)
    except (SyntaxError, ValueError) as error:
        place = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else error
        raise AutopeftError(f"'{file}' is no Python{place}: {said}.") from error
    defined = dict(_defined_in(tree.body))
    if name not in defined and "*" not in defined:
        raise unknown(f"{what} in '{file}'", name, defined)
    return defined.get(name, "")


def bring(reference: str, what: str) -> Any:
    """What a reference names, its code executed because the user named it. Raises AutopeftError."""
    require_own(reference, what)
    reference = rooted(reference)
    where, _, name = reference.rpartition(":")
    if reference in _held and reference in _named:
        return _named[reference]
    if where.endswith(_ENDING):
        module = _read(Path(where))
    else:
        try:
            module = importlib.import_module(where)
        except (Exception, SystemExit) as error:
            raise AutopeftError(f"'{where}' cannot be imported: {_said(error, '')}.") from error
    if not hasattr(module, name):
        raise unknown(f"{what} in '{where}'", name, (each for each in vars(module) if not each.startswith("_")))
    found = getattr(module, name)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        raise AutopeftError(f"'{name}' in '{where}' is neither a class nor a function, but {brief(found)}.")
    _keep(reference, found)
    return found


def remember(thing: Any) -> str:
    """The reference of a class or function that the user holds, and names by that."""
    module, name = thing.__module__, thing.__qualname__
    references = [f"{module}:{name}"]
    if (file := getattr(sys.modules.get(module), "__file__", None)) and "." not in module:
        references.insert(0, f"{Path(file).absolute()}:{name}")
    for each in references:
        _keep(each, thing)
    _held.update(references)
    return references[0]


def known(reference: str, what: str) -> Any:
    """What the user named by this reference. Raises NotNamed where he did not; then nothing is imported."""
    if reference not in _named:
        raise NotNamed(
            f"the {what} {brief(reference, 200)} is code of your own, which may do anything on this machine, and a "
            f"database or a folder alone does not decide that it runs: if you trust it, say --{what} here, too, or "
            f"autopeft.register({reference!r:.200}) in Python."
        )
    return _named[reference]


def everything() -> Iterator[Any]:
    """All that was named in this program, the last first; what was read again takes the place of what it was."""
    yield from reversed(_named.values())


def is_of_user(thing: Any) -> bool:
    """Whether a class or function is a user's own."""
    return str(thing.__module__).partition(".")[0] != _PACKAGE


def shown(thing: Any) -> str:
    """A class or function as it is told: the name of its file, without folders, and its own."""
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    where = Path(file).name if file and "." not in thing.__module__ else thing.__module__
    return f"{where}:{thing.__qualname__}"


def told(thing: Any) -> str:
    """Whatever is given for a class or function, in an error."""
    return f"'{shown(thing)}'" if inspect.isclass(thing) or inspect.isfunction(thing) else brief(thing)


def digest(thing: Any) -> str:
    """Tells two versions of a class apart by the source around it; where there is none, those of two programs."""
    text = _source(thing.__module__) or _written(thing) or f"{id(thing)} of this program"
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(thing: Any) -> str:
    """Tells whether a class or function is still what it was, from program to program: a hash of its module's source.
    Of what was typed (in a script, or in a notebook) that of its own source, as the lines around it do something else.
    Empty where there is no source.
    """
    text = "" if thing.__module__ == "__main__" else _source(thing.__module__)
    text = text or _written(thing)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def frames(error: BaseException) -> Iterator[tuple[CodeType, int]]:
    """What ran when an error came about, the outermost first, each with its line."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code, trace.tb_lineno
        trace = trace.tb_next


def codes() -> tuple[Code, ...]:
    """The modules of all that was named, for other processes. What lies in packages must be installed there, and what
    was typed (in a notebook) goes by value.
    """
    names = dict.fromkeys(thing.__module__ for thing in everything())
    texts = {name: _source(name) for name in names if "." not in name and name != "__main__"}
    return tuple(Code(name, str(sys.modules[name].__file__), text) for name, text in texts.items() if text)


def _keep(reference: str, thing: Any) -> None:
    _named.pop(reference, None)
    _named[reference] = thing


def _source(module: str) -> str:
    """The text of a module; empty where nobody has it."""
    return _texts[module] if module in _texts else _written(sys.modules.get(module))


def _written(thing: Any) -> str:
    """The text of a module, a class or a function where its file is; empty where there is none."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return ""


def _read(file: Path) -> ModuleType:
    """A file's module, executed anew: the file may have changed. Two files of one name are two modules."""
    module = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    before = sys.modules.pop(module, None)
    try:
        return Code(module, str(file), _text_of(file)).define()
    except AutopeftError:
        if before is not None:
            sys.modules[module] = before
        raise


def _text_of(file: Path) -> str:
    path = file.expanduser()
    if not path.is_file():
        near = [each.name for each in path.parent.glob(f"*{_ENDING}")] if path.parent.is_dir() else []
        close = get_close_matches(path.name, near, n=1)
        hint = f" Did you mean '{file.with_name(close[0])}'?" if close else ""
        raise AutopeftError(f"there is no file '{brief(str(file), 200)[1:-1]}'.{hint}")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise AutopeftError(f"'{file}' cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _text_of_module(module: str, name: str, what: str) -> tuple[str, str]:
    try:
        spec = importlib.util.find_spec(module) if all(map(str.isidentifier, module.split("."))) else None
    except (Exception, SystemExit) as error:
        if not isinstance(error, ModuleNotFoundError) or not f"{module}.".startswith(f"{error.name}."):
            raise AutopeftError(f"'{module}' cannot be imported: {_said(error, '')}.") from error
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(_ENDING):
        raise AutopeftError(
            f"Python finds no module {brief(module, 200)}; give the file of your {what}, as in my_{what}.py:{name}."
        )
    return _text_of(Path(spec.origin)), spec.origin


def _defined_in(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names that stand in a module when it was executed, each with what it is; `*` where that cannot be told."""
    for line in body:
        match line:
            case ast.ClassDef(name=name):
                yield name, "class"
            case ast.FunctionDef(name=name):
                yield name, "function"
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((each.asname or each.name.partition(".")[0], "") for each in names)
            case ast.Assign() | ast.AnnAssign():
                yield from ((each.id, "") for each in ast.walk(line) if isinstance(each, ast.Name))
            case ast.If() | ast.Try() | ast.With():
                yield "*", ""


def _said(error: BaseException, file: str) -> str:
    """An error with the last line of the file that led to it."""
    lines = [line for code, line in frames(error) if code.co_filename == file]
    return f"{f'line {lines[-1]}: ' if lines else ''}{type(error).__name__}: {brief(str(error), 200)[1:-1]}"
