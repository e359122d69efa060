"""What must stay true of the whole project: who imports whom, what an installation adds, what people are told."""

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from autopeft.cli import main
from autopeft.shipped import shipped

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "autopeft"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
GLANCE = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))

RANKS = {
    "foreign": 0,
    "errors": 1,
    **dict.fromkeys(("files", "sizes", "shipped", "declared", "machine", "notebooks"), 2),
    "objectives": 3,
    **dict.fromkeys(("plan", "data"), 4),
    **dict.fromkeys(("space", "backbone", "schemas"), 5),
    "trial": 6,
    **dict.fromkeys(("events", "fronts", "methods", "tasks"), 7),
    **dict.fromkeys(("confirmed", "training", "storage"), 8),
    **dict.fromkeys(("costs", "artifacts"), 9),
    **dict.fromkeys(("searching", "reports"), 10),
    **dict.fromkeys(("service", "python"), 11),
    **dict.fromkeys(("cli", "__init__"), 12),
}
"""A part of the package imports only parts of lower rank, and those of its own rank that `SIDEWAYS` names."""

SIDEWAYS: set[tuple[str, str]] = set()
UPWARD = {
    # What `search.select` returns can be saved by itself; imported when it is.
    ("trial.py", "autopeft.artifacts"),
    # What shows itself in a notebook does so in the reports' words; imported when it does.
    ("notebooks.py", "autopeft.reports.shown"),
}
HEAVY = {"torch", "ray", "transformers", "peft", "optuna", "sqlalchemy", "pandas", "sklearn", "datasets", "fastapi"}
OWNERS = {
    "ray": {"searching"},
    "optuna": {"searching", "reports"},
    "sqlalchemy": {"storage"},
    "alembic": {"storage"},
    **{library: {"service"} for library in ("fastapi", "starlette", "uvicorn", "prometheus_client")},
}


def part_of(path: Path) -> str:
    """`searching/driver.py` belongs to `searching`, `plan.py` to `plan`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """Full names of the modules that a file imports, inside functions too, with their lines; none for types only."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            if node.module == "autopeft":
                yield from ((f"autopeft.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield str(node.module), node.lineno


def test_every_part_of_the_package_has_a_rank() -> None:
    assert {part_of(path) for path in MODULES} == set(RANKS)


def test_dependencies_point_one_way() -> None:
    wrong = []
    for path in MODULES:
        mine = part_of(path)
        for name, line in imports(path):
            if not name.startswith("autopeft."):
                continue
            theirs = name.split(".")[1]
            allowed = (
                theirs == mine
                or RANKS[theirs] < RANKS[mine]
                or (mine, theirs) in SIDEWAYS
                or (str(path.relative_to(PACKAGE)), name) in UPWARD
            )
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_with_a_place_is_imported_only_there(library: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in MODULES
        for name, line in imports(path)
        if name.split(".")[0] == library and part_of(path) not in OWNERS[library]
    ]
    assert not wrong


def test_no_exception_to_the_import_rules_outlives_its_need() -> None:
    found = {
        (part_of(path), name.split(".")[1]) for path in MODULES for name, _ in imports(path) if "autopeft." in name
    }
    assert found >= SIDEWAYS
    assert {(str(path.relative_to(PACKAGE)), name) for path in MODULES for name, _ in imports(path)} >= UPWARD


def heavy_imports(program: str) -> str:
    """The heavy libraries that a program imports, as the text of a sorted list."""
    program = f"import sys; {program}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.splitlines()[-1] if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    assert heavy_imports(f"from autopeft.cli import main; main({arguments!r}, standalone_mode=False)") == "[]"


@pytest.mark.parametrize("command", ["list", "report", "select"])
def test_commands_on_what_is_remembered_import_the_database_and_nothing_else_that_is_heavy(command: str) -> None:
    asked = [command, "--storage", "sqlite:///nothing-there.db"]
    program = f"""
try:
    from autopeft.cli import main; main({asked!r}, standalone_mode=False)
except BaseException:
    pass
import autopeft.reports.format.terminal, autopeft.fronts, autopeft.reports.costs, autopeft.searching.search
import sys; print(sorted({HEAVY!r} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "['sqlalchemy']"


def test_lists_of_what_there_is_import_nothing_heavy_where_it_is_kept() -> None:
    assert heavy_imports("import autopeft.reports.methods, autopeft.reports.catalogue, autopeft.space.space") == "[]"


def test_importing_the_package_imports_no_heavy_library() -> None:
    assert heavy_imports("import autopeft; autopeft.Budget(memory='1GiB')") == "[]"


def test_using_the_package_is_seen_by_the_test_of_imports() -> None:
    assert "'torch'" in heavy_imports("import autopeft; autopeft.attach")


def built(target: str, source: Path, to: Path) -> Path:
    """The wheel or the source distribution of a project."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(to)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = to.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))) as opened:
        yield opened


def test_a_wheel_adds_one_import_name(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"autopeft"}


def test_a_wheel_holds_the_types_marker_and_the_command(wheel: zipfile.ZipFile) -> None:
    assert "autopeft/py.typed" in wheel.namelist()
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "autopeft = autopeft.cli:main" in wheel.read(entry_points).decode()


@pytest.mark.parametrize("folder", ["search_spaces", "storage"])
def test_a_wheel_holds_every_declared_file_that_the_program_reads(wheel: zipfile.ZipFile, folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert files
    assert {f"autopeft/_shipped/{path.relative_to(ROOT).as_posix()}" for path in files} <= set(wheel.namelist())


def test_a_wheel_finds_its_declared_folders(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = "from autopeft.shipped import shipped; print((shipped('search_spaces') / 'default.yaml').is_file())"
    alone = [sys.executable, "-S", "-c", program]
    assert subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_wheel_runs_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = "import autopeft; from autopeft.cli import main; print(autopeft.__file__); main(['spaces'])"
    alone = [sys.executable, "-c", program]
    told = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told.startswith(str(tmp_path))
    assert "quick_language" in told


def test_a_source_distribution_makes_the_same_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    with tarfile.open(built("sdist", ROOT, tmp_path)) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = (each for each in tmp_path.iterdir() if each.is_dir())
    with zipfile.ZipFile(built("wheel", source, tmp_path)) as again:
        assert set(again.namelist()) == set(wheel.namelist())


def test_a_checkout_finds_its_declared_folders() -> None:
    assert shipped("search_spaces") == ROOT / "search_spaces"


def test_the_readme_fits_on_two_screens() -> None:
    assert len(README.splitlines()) <= 90


def test_the_readme_tells_how_it_is_tested_and_ci_does_so() -> None:
    assert "\n```\nmake test\n```\n" in README
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", main.commands)
def test_every_command_is_in_the_list_of_all_commands(command: str) -> None:
    assert re.search(rf"^\$ autopeft {command}\b", GLANCE, re.MULTILINE)


def tracked_files() -> list[str]:
    """What git holds; nothing outside a checkout."""
    asked = ["git", "ls-files"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()


def tree() -> dict[str, str]:
    """Path -> purpose, as CONTRIBUTING's tree says."""
    block = CONTRIBUTING.split("## What is where")[1].split("```")[1]
    told, folder = {}, ""
    for line in block.strip("\n").splitlines():
        indent, name, purpose = re.fullmatch(r"( *)(\S+)\s+(.+)", line).groups()  # type: ignore[union-attr]
        folder = folder if indent else name
        told[(folder if indent else "") + name] = purpose
    return told


def test_the_tree_that_is_told_is_the_real_tree() -> None:
    told = tree()
    assert all(told.values())
    missing = [path for path in told if not (ROOT / path).exists() or path.endswith("/") != (ROOT / path).is_dir()]
    assert not missing
    parts = {f"autopeft/{path.name}{'/' if path.is_dir() else ''}" for path in PACKAGE.iterdir()}
    folders = {f"{path.split('/')[0]}/" for path in tracked_files() if "/" in path}
    untold = (parts | folders) - set(told) - {"autopeft/__init__.py", "autopeft/__pycache__/", "autopeft/py.typed"}
    assert not untold


def test_the_project_has_one_version_everywhere() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_torch_has_one_version_everywhere() -> None:
    pinned = "torch==2.13.0"
    assert f"\n{pinned}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"install --quiet {pinned}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"'{pinned.split('==')[1]}'" in (ROOT / "workers" / "Dockerfile").read_text(encoding="utf-8")
