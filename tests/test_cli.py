"""The command line as its users meet it: one whole round on a tiny model, and one mistake of each kind."""

import ast
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import autopeft
from autopeft.cli import main
from autopeft.cli.options import CALLED
from autopeft.objectives import UNITS
from autopeft.plan import Budget, Plan, Resources, field_docs
from autopeft.reports import formats
from autopeft.reports.findings import no_gain
from tests.user import user_folder


def run(*arguments: object) -> Result:
    """A command in this process; exceptions other than exits come through."""
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], prog_name="autopeft", catch_exceptions=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("user"))


def where(place: Path) -> tuple[str, ...]:
    return ("--storage", f"sqlite:///{place}/searches.db")


@pytest.fixture(scope="module")
def searched(place: Path) -> Result:
    """A small search named `reviews`, in one process."""
    options = ("--methods", "lora,bitfit", "--trials", 3, "--max-length", 16, "--space", "quick", "--workers", 0)
    limits = ("--memory", "1GiB", "--trainable", "90%")
    paths = ("--model", place / "model", "--data", place / "reviews.csv", "--folder", place / "runs")
    return run("search", *paths, *options, *limits, "--name", "reviews", *where(place))


def test_a_search_reports_its_trials_and_says_what_to_do_next(searched: Result) -> None:
    assert searched.exit_code == 0
    assert "bitfit" in searched.stdout
    assert "autopeft report reviews --storage" in searched.stdout
    assert "autopeft select reviews --storage" in searched.stdout


@pytest.mark.usefixtures("searched")
def test_the_list_shows_the_search(place: Path) -> None:
    line = next(line for line in run("list", *where(place)).stdout.splitlines() if line.startswith("reviews"))
    assert "finished" in line
    assert " 3 " in line


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("name", [["reviews"], []])
def test_a_report_is_json_and_csv(place: Path, name: list[str]) -> None:
    everything = json.loads(run("report", *name, "--format", "json", *where(place)).stdout)
    assert len(everything["trials"]) == 3
    rows = list(csv.DictReader(run("report", *name, "--format", "csv", *where(place)).stdout.splitlines()))
    assert len(rows) == 3


@pytest.mark.usefixtures("searched")
def test_a_page_is_written_and_its_path_printed(place: Path) -> None:
    for given in (["--to"], ["--format", "html", "--to"], ["--html"]):
        page = place / f"report{len(given[0])}{len(given)}.html"
        assert str(page) in run("report", *given, page, *where(place)).stdout
        assert "<title>" in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("name", formats())
def test_every_format_is_printed_and_written(place: Path, name: str) -> None:
    file = place / "report.some"
    printed = run("report", "--format", name, *where(place))
    written = run("report", "--format", name, "--to", file, *where(place))
    assert (printed.exit_code, written.exit_code) == (0, 0)
    assert file.read_text(encoding="utf-8").rstrip("\n") == printed.stdout.rstrip("\n")
    assert name in run("report", "--help").stdout


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("name", [name for name in formats() if name != "terminal"])
def test_every_format_has_an_option_of_its_own_with_a_file_or_without(place: Path, name: str) -> None:
    file = place / "report.other"
    asked = run("report", "--format", name, *where(place)).stdout
    assert run("report", f"--{name}", *where(place)).stdout == asked
    assert run("report", f"--{name}", file, *where(place)).exit_code == 0
    assert file.read_text(encoding="utf-8").rstrip("\n") == asked.rstrip("\n")
    twice = run("report", f"--{name}", file, "--to", file, *where(place))
    assert (twice.exit_code, "one format at a time" in twice.stderr) == (2, True)


@pytest.mark.usefixtures("searched")
def test_the_selected_trial_can_be_exported_and_loaded(place: Path) -> None:
    told = run("select", "--prefer", "trainable", *where(place)).stdout
    opened = autopeft.open("reviews", storage=where(place)[1])
    number = opened.select(prefer="trainable").number
    assert told.startswith(f"Trial {number} of reviews: the lowest trainable of all trials.")
    assert f"autopeft export reviews {number} --to" in told
    assert no_gain(opened.record, opened.trial(number)) in told

    exported = run("export", "reviews", number, "--to", place / "winner", *where(place))
    assert f'model = autopeft.load("{place / "winner"}")' in exported.stdout
    assert (
        f"on validation data ({opened.record.facts['validation_rows']:,} rows)"
        in (place / "winner" / "README.md").read_text()
    )
    model = autopeft.load(place / "winner")
    assert set(model.predict(["the film was good", "the book was awful"])) <= {"positive", "negative"}


@pytest.mark.usefixtures("searched")
def test_a_front_is_confirmed_and_reported_with_what_that_says(place: Path) -> None:
    resources = ("--workers", 0, "--folder", place / "runs", *where(place))
    told = run("confirm", "reviews", "--seeds", 1, *resources)
    assert told.exit_code == 0
    assert "Front trained again with 1 seed, judged on 40 validation rows" in told.stdout
    assert "again, seed 1: validation" in told.stderr
    again = run("confirm", "--seeds", 1, *resources)
    assert again.exit_code == 0
    assert "training" not in again.stderr


WRITTEN = {
    "memory": "8GiB",
    "trainable": "90%",
    "stored": "500MB",
    "flops": "900T",
    "overhead": "500%",
    "time": "90h",
    "latency": "9000ms",
    "score": "1%",
}


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("limit", UNITS)
def test_every_limit_is_written_with_its_unit(place: Path, limit: str) -> None:
    option = CALLED.get((Budget, limit), limit).replace("_", "-")
    told = run("select", f"--{option}", WRITTEN[limit], *where(place))
    assert told.exit_code == 0, told.stderr
    assert " of the trials that keep " in told.stdout


@pytest.mark.usefixtures("searched")
def test_the_score_is_limited_and_preferred_by_either_name(place: Path) -> None:
    now = run("select", "--score", "50%", "--prefer", "score", *where(place))
    before = run("select", "--accuracy-at-least", "0.5", "--prefer", "accuracy", *where(place))
    assert now.exit_code == before.exit_code == 0, before.stderr
    assert before.stderr == "--accuracy-at-least is called --score now.\n"
    assert "the highest accuracy of the trials that keep score 0.5." in before.stdout
    assert now.stdout.splitlines()[1:] == before.stdout.splitlines()[1:]
    assert "--accuracy-at-least" not in run("select", "--help").stdout


@pytest.mark.usefixtures("searched")
def test_limits_that_exclude_every_trial_are_answered(place: Path) -> None:
    result = run("select", "--trainable", 1, *where(place))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "trainable" in result.stderr


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["resume", "reviews"], "reached its limits"),
        (["report", "review"], "reviews"),
        (["export", "reviews", "99", "--to", "nowhere"], "has no trial 99"),
        (["export", "reviews", "1", "--to", "nowhere", "--merge", "--onnx"], "give merge or onnx, not both"),
        (["report", "--to", "no/such/folder/report.html"], "cannot write 'no/such/folder/report.html'"),
        (["report", "--to", "."], "'.' is a directory"),
        (["select", "--prefer", "sored"], "unknown objective 'sored'. Did you mean 'stored'?"),
        (["select", "--score", "90"], "accuracy is at most 1"),
    ],
)
def test_a_slip_after_a_search_is_answered(place: Path, arguments: list[str], answer: str) -> None:
    result = run(*arguments, *where(place))
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert answer in last


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["search"], "Give --model, or a plan by --plan, or try --demo."),
        (["search", "--model", "m"], "Give --data"),
        (["search", "--model", "m", "--data", "d", "--memory", "8Gib0"], "'8Gib0' is not a size in bytes"),
        (["search", "--model", "m", "--data", "d", "--memory", "8"], "memory: 8 bytes? Write 8GiB."),
        (["search", "--model", "m", "--data", "d", "--time", "2"], "time: 2 seconds? Write 2h"),
        (["search", "--model", "m", "--data", "d", "--timeout", "2"], "timeout: 2 seconds? Write 2h"),
        (["search", "--model", "m", "--data", "d", "--trials", "0"], "trials must be at least 1"),
        (["search", "--model", "m", "--data", "d", "--objectives", "acuracy"], "Did you mean 'accuracy'?"),
        (["search", "--model", "m", "--data", "d", "--sampler", "known"], "Did you mean 'known_costs'?"),
        (["search", "--model", "m", "--data", "d", "--workers", "-1"], "workers must be 0 or more"),
        (["search", "--model", "m", "--data", "d", "--name", "n" * 101], "a name takes at most 100 bytes"),
        (["search", "--model", "m", "--data", "~nobody/d"], "~nobody"),
        (["search", "--plan", "no-plan.yaml"], "cannot read the plan 'no-plan.yaml'"),
        (["report"], "there is no search in"),
    ],
)
def test_a_slip_is_answered_in_one_sentence(tmp_path: Path, arguments: list[str], answer: str) -> None:
    result = run(*arguments, "--storage", f"sqlite:///{tmp_path}/empty.db")
    assert result.exit_code == 2
    assert answer in result.stderr
    assert "Traceback" not in result.stderr


def test_options_come_before_a_plan(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("model: m\ndata: d\ntime: 2h\nbudget: {memory: 8GiB, trainable: 1%}\n")
    plan = Plan.from_yaml(file, {"data": "e", "budget": {"memory": "4GiB"}})
    assert (plan.data, plan.time, plan.trials) == ("e", 7200, None)
    assert plan.budget == Budget(memory="4GiB", trainable="1%")  # type: ignore[arg-type]


@pytest.mark.parametrize("wish", ["warm_start", "trust_remote_code"])
def test_a_wish_is_a_flag_or_a_line_of_a_plan(wish: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def take(plan: Plan, **_: object) -> None:
        plans.append(plan)
        raise autopeft.AutopeftError("seen")

    monkeypatch.setattr(import_module("autopeft.searching.search"), "search", take)
    file = tmp_path / "plan.yaml"
    file.write_text(f"{wish}: true\n")
    for options in ([], [f"--{wish.replace('_', '-')}"], ["--plan", file]):
        assert run("search", "--model", "m", "--data", "d", *options).stderr.endswith("seen\n")
    assert [getattr(plan, wish) for plan in plans] == [False, True, True]


@pytest.mark.parametrize("trusted", [False, True])
def test_an_estimate_trusts_code_of_a_model_only_where_it_is_told(
    trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(_: str, **options: object) -> None:
        raise autopeft.AutopeftError(f"seen {options['trust_remote_code']}")

    monkeypatch.setattr(import_module("autopeft.costs.estimate"), "estimate", take)
    given = ["--trust-remote-code"] if trusted else []
    assert run("estimate", "--model", "m", *given).stderr.endswith(f"seen {trusted}\n")


@pytest.mark.parametrize(("line", "answer"), [("trials: many", "whole number"), ("budget: 8GiB", "must hold limits")])
def test_a_plan_with_a_wrong_value_is_answered(tmp_path: Path, line: str, answer: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"model: m\ndata: d\n{line}\n")
    result = run("search", "--plan", file, "--storage", f"sqlite:///{tmp_path}/empty.db")
    assert result.exit_code == 2
    assert answer in result.stderr


def test_every_setting_is_an_option_with_its_description() -> None:
    options = {option.name: option for option in main.commands["search"].params}
    for kind in (Plan, Budget, Resources):
        for each in fields(kind):
            if each.name != "budget":
                name = CALLED.get((kind, each.name), each.name)
                assert field_docs(kind)[each.name] in (options[name].help or "")  # type: ignore[attr-defined]


def test_the_time_of_one_trial_and_of_the_search_are_two_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def take(plan: Plan, **_: object) -> None:
        plans.append(plan)
        raise autopeft.AutopeftError("seen")

    monkeypatch.setattr("autopeft.searching.search.search", take)
    run("search", "--model", "m", "--data", "d", "--time", "2h", "--seconds-per-trial", "90s")
    (plan,) = plans
    assert (plan.time, plan.budget.time) == (7200.0, 90.0)


def test_methods_and_spaces_are_listed() -> None:
    listed = run("methods").stdout
    lora = next(line for line in listed.splitlines() if line.startswith("lora "))
    assert [cell.strip() for cell in lora.split("  ") if cell.strip()][:5] == [
        "lora",
        "reparameterised",
        "295k",
        "yes",
        "yes",
    ]
    assert "arXiv:2106.09685" in lora
    assert all(name in listed for name in ("bitfit", "lora_parallel"))
    assert all(name in run("spaces").stdout for name in ("default", "quick"))


def test_a_method_is_explained_with_its_ranges() -> None:
    told = run("methods", "lora").stdout
    assert "run without dropout" in told
    assert "run without dropout" not in run("methods", "prompt_tuning").stdout
    assert "trains 294,912 on BERT-base; it merges into the weights, and is saved in peft's own format" in told
    assert re.search(r"^rank +8 +1, 2, 4, 8, 16, 32, 64 *$", told, re.MULTILINE)
    assert re.search(r"^learning_rate +0\.002 +0\.0002 … 0\.02 \(log\) *$", told, re.MULTILINE)
    assert re.search(r"^adapter\.bottleneck +64 ", run("methods", "lora_parallel").stdout, re.MULTILINE)
    slip = run("methods", "lorra")
    assert (slip.exit_code, "Did you mean 'lora'?" in slip.stderr) == (2, True)


def test_a_shell_completes_commands_and_options() -> None:
    for words, completed in (("autopeft conf", "confirm"), ("autopeft search --trai", "--trainable")):
        asked = {"_AUTOPEFT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        told = CliRunner().invoke(main, [], prog_name="autopeft", env=asked).stdout
        assert f"plain,{completed}" in told.splitlines()


def test_no_searches_is_no_error(tmp_path: Path) -> None:
    result = run("list", "--storage", f"sqlite:///{tmp_path}/empty.db")
    assert result.exit_code == 0
    assert result.stdout.startswith("No searches in")


@pytest.mark.parametrize(
    ("sent", "workers", "status"),
    [
        pytest.param(signal.SIGINT, 0, 130, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 1, 143, marks=pytest.mark.long),
        (signal.SIGTERM, 0, 143),
    ],
)
def test_an_interrupt_says_how_to_go_on_and_the_search_goes_on(
    place: Path, tmp_path: Path, sent: signal.Signals, workers: int, status: int
) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    resources = ["--folder", str(tmp_path / "runs"), "--storage", storage, "--workers", str(workers)]
    paths = ["--model", str(place / "model"), "--data", str(place / "reviews.csv"), "--space", "quick"]
    command = [sys.executable, "-c", "from autopeft.cli import main; main()"]
    asked = [*command, "search", *paths, "--name", "long", "--methods", "bitfit", "--trials", "10000", *resources]
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_trials(storage, process)
        process.send_signal(sent)
        _, told = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == status, told
    assert "Traceback" not in told
    assert "SIGTERM" not in told
    assert f"Go on with: autopeft resume long --workers {workers} --storage" in told
    assert autopeft.open("long", storage=storage).record.ended is None


def wait_for_trials(storage: str, process: subprocess.Popen[str]) -> None:
    """Until a search has two trials, one of which is finished then; fails when its process ends before that."""
    began = time.monotonic()
    while time.monotonic() - began < 240:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.5)
        try:
            if len(autopeft.open("long", storage=storage).trials) >= 2:
                return
        except autopeft.AutopeftError:
            continue
    pytest.fail("the search did not begin")


def shell(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of `autopeft …`."""
    program = f"{sys.executable} -c 'from autopeft.cli import main; main()'"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('autopeft', program, 1)}"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(Path(autopeft.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("autopeft list > /dev/full", 2, "Error: the system refuses: No space left on device.\n"),
        ("autopeft --help > /dev/full", 2, "Error: the system refuses: No space left on device.\n"),
        ("autopeft list | true", 1, ""),
        ("autopeft list >&- 2>&- <&-", 0, ""),
        ("PYTHONIOENCODING=latin-1 autopeft search --help > /dev/null", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; autopeft list", 2, "Error: the folder that you are in was removed; "),
    ],
)
def test_what_the_system_refuses_ends_in_no_traceback(tmp_path: Path, line: str, status: int, told: str) -> None:
    done = shell(tmp_path, line)
    assert (done.returncode, done.stderr[: len(told) or None]) == (status, told)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", main.commands)
def test_every_command_answers_an_error_in_one_sentence(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise autopeft.AutopeftError("the answer \x1b[2J.")

    monkeypatch.setattr(main.commands[command], "callback", refuse)
    needed = [each for each in main.commands[command].params if each.required]
    said = [part for each in needed for part in ([] if each.param_type_name == "argument" else [each.opts[0]]) + ["1"]]
    result = run(command, *said)
    assert (result.exit_code, result.stderr) == (2, "Error: the answer \\x1b[2J.\n")


def test_a_search_of_which_every_trial_fails_says_why_and_ends_with_1(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the sky fell\x1b[2J")

    monkeypatch.setattr("autopeft.searching.pausing.save_artifact", fail)
    paths = ("--model", place / "model", "--data", place / "reviews.csv", "--folder", tmp_path / "runs")
    options = ("--methods", "bitfit", "--trials", 2, "--max-length", 16, "--space", "quick", "--workers", 0)
    result = run("search", *paths, *options, *where(tmp_path))
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"Error: none of 2 trials is on a front; most often \(2 of them\): .*the sky fell\\x1b\[2J\.", last
    )
    assert "As a page" not in result.stdout


def test_all_text_of_a_command_is_printed_by_one_function() -> None:
    files = Path(import_module("autopeft.cli").__file__ or "").parent.glob("*.py")
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    functions = [each for tree in trees for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    assert len(functions) > 20
    printing = {each.name for each in functions if "click.echo(" in ast.unparse(each)}
    rendered = [line for each in functions for line in ast.unparse(each).splitlines() if "click.echo(" in line]
    assert all("render(" in line or "harmless(" in line or "captured" in line for line in rendered), printing


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "postgresql://u:s3cr3t@127.0.0.1:1/db"),
        ("list", "postgresql://u:s3cr3t@127.0.0.1:1/db"),
        ("methods", "postgresql://u:s3cr3t@host/db"),
        ("search", "--model", "m", "--data", "d.csv", "--folder", "postgresql://u:s3cr3t@host/db"),
        ("select", "base", "\x1b]0;x\x07"),
        ("report", "--\x1b[2J"),
    ],
)
def test_what_was_typed_in_a_wrong_place_is_repeated_without_passwords_and_escapes(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "s3cr3t" not in result.output
    assert "\x1b" not in result.output
    assert not any(tmp_path.iterdir()), "nothing is made"


def test_all_tasks_are_listed_with_their_columns_and_metrics() -> None:
    shown = run("tasks").stdout
    for name in ("text-classification", "text-regression", "multi-label-classification", "token-classification"):
        assert f"{name}: " in shown
    assert "  reads    label (label, labels, class …); text (text, sentence, premise + hypothesis …)" in shown
    assert "  metrics  pearson, rmse, mae, r2, spearman" in shown
