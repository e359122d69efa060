from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.errors import AutopeftError
from autopeft.objectives import COSTS
from autopeft.plan import Budget, Plan, Resources, field_docs
from autopeft.sizes import Share
from autopeft.trial import Costs


def complaint(make, *arguments, **settings) -> str:
    with pytest.raises(AutopeftError) as caught:
        make(*arguments, **settings)
    return str(caught.value)


def test_a_budget_reads_sizes_counts_and_shares():
    budget = Budget("8GiB", "1%", "10MiB", "2T", overhead="5%", latency="20ms", score="80%")
    assert budget == Budget(8 * 1024**3, Share(0.01), 10 * 1024**2, 2 * 10**12, 0.05, 0.02, 0.8)
    assert budget.resolved(22_000_000).limits() == {
        "memory": 8 * 1024**3,
        "trainable": 220_000,
        "stored": 10 * 1024**2,
        "flops": 2 * 10**12,
        "overhead": 0.05,
    }
    assert Budget(overhead=0).limits() == {"overhead": 0.0}


def test_a_budget_without_limits_has_none():
    assert Budget().resolved(1000).limits() == {}
    assert Budget(score=0.9).limits() == {}
    assert Budget(trainable="500k").resolved(1000) == Budget(trainable=500_000)


def test_limits_of_an_unresolved_share_are_never_left_out_in_silence():
    with pytest.raises(ValueError, match="share 1% is not resolved"):
        Budget(trainable="1%").limits()


def test_limits_on_what_is_known_after_training_may_come_from_another_budget():
    plans = Budget(memory="8GiB", latency="20ms", score=0.8)
    assert Budget(trainable=5).or_else(plans) == Budget(trainable=5, latency=0.02, score=0.8)
    assert Budget(score="90%").or_else(plans) == Budget(latency=0.02, score=0.9)


def test_every_limit_on_costs_is_an_objective():
    assert {field.name for field in fields(Budget)} - {"score", "latency"} == set(COSTS)
    assert set(COSTS) < {field.name for field in fields(Costs)}


def test_the_old_name_of_the_limit_on_scores_goes_on_working_with_a_warning(tmp_path):
    with pytest.warns(FutureWarning, match="'accuracy_at_least' is called 'score' now"):
        assert Budget(accuracy_at_least=0.8) == Budget(score=0.8)
    with pytest.warns(FutureWarning, match="called 'score' now"):
        assert Budget(score=0.9, accuracy_at_least=0.8) == Budget(score=0.9)
    path = write(tmp_path, "model: mini\ndata: train.csv\nbudget: {accuracy_at_least: 80%}\n")
    with pytest.warns(FutureWarning, match="called 'score' now"):
        assert Plan.from_yaml(path).budget.score == 0.8


def test_the_score_may_be_called_by_its_metric():
    assert Plan("m", "d", objectives="accuracy,memory").objectives == ("score", "memory")
    assert Plan("m", "d", objectives="accuracy,memory").metric == "accuracy", "who says so wants that"
    assert Plan("m", "d", metric="f1_macro", objectives="f1_macro,memory").objectives == ("score", "memory")
    said = complaint(Plan, "m", "d", metric="f1_macro", objectives="accuracy,memory")
    assert said.startswith("unknown objective 'accuracy'.")
    assert "f1_macro" in said


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"memory": 0}, "budget memory must be at least 1, not 0."),
        ({"flops": "0.5"}, "budget flops must be at least 1, not 0.5."),
        ({"trainable": "0%"}, "budget trainable must be more than 0%, not 0%."),
        ({"memory": "much"}, "'much' is not a size in bytes; write it like 8GiB, 500MiB or 2GB."),
        ({"memory": 8}, "memory: 8 bytes? Write 8GiB."),
        ({"memory": "8"}, "memory: 8 bytes? Write 8GiB."),
        ({"memory": "1.5 "}, "memory: 1.5 bytes? Write 1.5GiB."),
        ({"memory": "16384"}, "memory: 16384 bytes? Write 16384MiB."),
        ({"stored": 10}, "stored: 10 bytes? Write 10MiB."),
        ({"stored": "500"}, "stored: 500 bytes? Write 500MiB."),
        ({"overhead": "5"}, "overhead: 5 times what the backbone computes? Write 5%."),
        ({"latency": 20}, "latency: 20 seconds for one text? Write 20ms or 20s."),
        ({"latency": "20"}, "latency: 20 seconds for one text? Write 20ms or 20s."),
        ({"latency": 0}, "budget latency must be more than 0 seconds."),
        ({"overhead": "some"}, "'some' is not a share; write it like 5% or 0.05."),
        ({"memory": True}, "'True' is not a size in bytes; write it like 8GiB, 500MiB or 2GB."),
        ({"memory": ["8GiB"]}, "'['8GiB']' is not a size in bytes; write it like 8GiB, 500MiB or 2GB."),
        ({"flops": 10**5001}, "'a whole number of about 5,001 digits' is not a number; write it like 500k"),
        ({"trainable": "1e300%"}, "budget trainable must be at most 1,000,000,000%, not 1e300%."),
        ({"score": 10**5001}, "'a whole number of about 5,001 digits' is not a score; write it like 0.9 or 90%."),
        ({"score": "good"}, "'good' is not a score; write it like 0.9 or 90%."),
        ({"score": True}, "'True' is not a score; write it like 0.9 or 90%."),
        ({"score": float("nan")}, "'nan' is not a score; write it like 0.9 or 90%."),
    ],
)
def test_a_limit_that_is_none_is_refused(limits, said):
    assert complaint(Budget, **limits).startswith(said)


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("memory", 8589934592, 8589934592),
        ("memory", "8589934592", 8589934592),
        ("memory", "400 B", 400),
        ("stored", "4096", 4096),
        ("flops", 8, 8),
        ("trainable", "8", 8),
        ("overhead", "500%", 5.0),
        ("overhead", "0.05", 0.05),
        ("latency", "0.02", 0.02),
        ("latency", "20s", 20.0),
    ],
)
def test_a_number_that_can_be_meant_needs_no_unit_and_what_was_read_can_be_read_again(name, given, read):
    budget = Budget(**{name: given})
    assert getattr(budget, name) == getattr(replace(budget), name) == read


def test_a_share_of_a_small_backbone_may_be_nothing_and_is_refused_then():
    assert complaint(Budget(trainable="0.001%").resolved, 1000) == "budget trainable must be at least 1, not 0."


def test_a_plan_needs_a_model_and_data_only():
    plan = Plan("mini", "train.csv")
    assert (plan.trials, plan.time, plan.task, plan.seed) == (32, None, "auto", 0)
    assert plan.objectives == ("score", "memory", "trainable")


def test_a_plan_with_a_time_has_no_limit_on_trials():
    plan = Plan("mini", "train.csv", time="2h")
    assert (plan.trials, plan.time) == (None, 7200)
    assert Plan("mini", "train.csv", time="2h", trials=5).trials == 5


def test_several_names_may_be_given_one_by_one_or_as_one_text():
    plan = Plan("mini", "train.csv", text="premise, hypothesis", methods=["lora"], objectives="accuracy,flops")
    assert plan.text == ("premise", "hypothesis")
    assert plan.methods == ("lora",)
    assert plan.objectives == ("score", "flops")
    assert Plan("mini", "train.csv", text=["a, b"]).text == ("a, b",)


def test_paths_and_column_numbers_are_taken_as_text():
    plan = Plan(Path("models/mini"), Path("train.csv"), label=0, space=Path("mine"))
    assert (plan.model, plan.data, plan.label, plan.space) == ("models/mini", "train.csv", "0", "mine")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trials": 0}, "trials must be at least 1, not 0."),
        ({"trials": "many"}, "trials must be a whole number, not 'many'."),
        ({"trials": 1.5}, "trials must be a whole number, not '1.5'."),
        ({"trials": True}, "trials must be a whole number, not 'True'."),
        ({"max_length": "long"}, "max_length must be a whole number, not 'long'."),
        ({"max_length": 4}, "max_length must be at least 8 tokens, not 4."),
        ({"seed": None}, "seed must be a whole number, not 'None'."),
        ({"seed": -1}, "seed must lie between 0 and 4294967295, not -1."),
        ({"seed": 2**32}, "seed must lie between 0 and 4294967295, not 4294967296."),
        ({"confirm": -1}, "confirm must be 0 or more seeds, not -1."),
        ({"confirm": 0.5}, "confirm must be a whole number, not '0.5'."),
        ({"warm_start": "yes"}, "warm_start must be true or false, not 'yes'."),
        ({"trust_remote_code": 1}, "trust_remote_code must be true or false, not '1'."),
        ({"time": 0}, "time must be more than 0 seconds."),
        ({"time": 2}, "time: 2 seconds? Write 2h or 2m or 2s."),
        ({"time": "0.5"}, "time: 0.5 seconds? Write 0.5h or 0.5m or 0.5s."),
        ({"time": "soon"}, "'soon' is not a duration; write it like 90s, 10m or 2h."),
        ({"text": ("a", "b", "c")}, "at most two text columns can be used, not 3: a, b, c."),
        ({"text": 3}, "text must be names such as 'a,b', not '3'."),
        ({"text": {"a": "b"}}, "text must be names such as 'a,b', not '{'a': 'b'}'."),
        ({"methods": ["lora", ["bitfit"]]}, "methods must be a text, not ['bitfit']."),
        ({"model": ["m"]}, "model must be a text, not ['m']."),
        ({"data": {"train": "a.csv"}}, "data must be a text, not {'train': 'a.csv'}."),
        ({"data": "a\0b"}, r"data must be a text, not 'a\x00b'."),
        ({"model": "\ud800"}, r"model must be a text, not '\ud800'."),
        ({"label": True}, "label must be a text, not True."),
        ({"label": 10**5001}, "label must be a text, not a whole number of about 5,001 digits."),
        ({"trials": 10**5001}, "trials must be at most 1,000,000,000, not a whole number of about 5,001 digits."),
        ({"seed": 10**5001}, "seed must lie between 0 and 4294967295, not a whole number of about 5,001 digits."),
        ({"time": 10**5001}, "'a whole number of about 5,001 digits' is not a duration; write it like 90s, 10m or 2h."),
        ({"time": "1e300"}, "time must be more than 0 seconds, and less than 30 years."),
        (
            {"sampler": "tpee"},
            "unknown sampler 'tpee'. Did you mean 'tpe'? Known: gp, known_costs, nsga2, random, tpe.",
        ),
        ({"objectives": ()}, "objectives must be distinct and at least one, not ''."),
        ({"objectives": "memory,memory"}, "objectives must be distinct and at least one, not 'memory,memory'."),
        ({"budget": "8GiB"}, "budget must hold limits such as 'memory: 8GiB', not '8GiB'."),
        ({"model": ""}, "a plan needs 'model'."),
        ({"data": " "}, "a plan needs 'data'."),
    ],
)
def test_a_slip_in_a_plan_is_answered(settings, said):
    assert complaint(Plan, **{"model": "mini", "data": "train.csv", **settings}) == said


def test_an_unknown_name_in_a_plan_is_answered_with_the_nearest():
    plain = {"model": "mini", "data": "train.csv"}
    assert "unknown plan field 'trails'. Did you mean 'trials'?" in complaint(Plan.from_dict, {**plain, "trails": 3})
    assert "unknown plan field '3'." in complaint(Plan.from_dict, {**plain, 3: 3})
    said = complaint(Plan.from_dict, {**plain, "budget": {"memry": "8GiB"}})
    assert said.startswith("unknown budget 'memry'. Did you mean 'memory'?")
    assert "Did you mean 'accuracy'?" in complaint(Plan, "mini", "train.csv", objectives="acuracy")


@pytest.mark.parametrize("plain", [{"data": "train.csv"}, {"model": None, "data": "train.csv"}])
def test_a_plan_without_a_model_is_refused(plain):
    assert complaint(Plan.from_dict, plain) == "a plan needs 'model'."


def test_what_is_none_in_plain_values_is_not_given():
    plain = {"model": "mini", "data": "train.csv", "space": None, "seed": None, "text": None, "budget": None}
    assert Plan.from_dict(plain) == Plan("mini", "train.csv")


plans = st.builds(
    Plan,
    model=st.just("mini"),
    data=st.just("train.csv"),
    text=st.sampled_from([(), ("text",), ("a", "b")]),
    label=st.none() | st.just("label"),
    methods=st.sampled_from([(), ("lora", "bitfit")]),
    objectives=st.permutations(["score", *COSTS]).map(lambda names: tuple(names[:3])),
    budget=st.builds(
        Budget,
        memory=st.none() | st.integers(256, 2**40),
        trainable=st.none() | st.integers(1, 10**9) | st.integers(1, 10**6).map(lambda n: f"{n / 10**4}%"),
        score=st.none() | st.floats(-9, 9),
    ),
    trials=st.none() | st.integers(1, 1000),
    time=st.none() | st.floats(0.1, 10**6),
    max_length=st.integers(8, 4096),
    seed=st.integers(0, 2**32 - 1),
    confirm=st.integers(0, 9),
    warm_start=st.booleans(),
    trust_remote_code=st.booleans(),
)


@given(plans)
def test_a_plan_is_read_back_from_its_plain_values(plan):
    assert Plan.from_dict(plan.to_dict()) == plan


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "plan.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_plan_is_read_from_yaml_and_what_is_given_beside_it_comes_first(tmp_path):
    path = write(
        tmp_path,
        "model: mini\ndata: train.csv\ntext: premise, hypothesis\nlabel:\ntime: 30m\ntrials: 8\n"
        "budget: {memory: 8GiB, trainable: 1%}\n",
    )
    plan = Plan.from_yaml(path)
    expected = Plan(
        "mini", "train.csv", ("premise", "hypothesis"), time=1800, trials=8, budget=Budget("8GiB", trainable="1%")
    )
    assert plan == expected
    changed = Plan.from_yaml(path, {"trials": 9, "budget": {"memory": "4GiB"}})
    assert changed == replace(expected, trials=9, budget=Budget("4GiB", trainable="1%"))
    assert Plan.from_yaml(write(tmp_path, "model: mini\ndata: train.csv\nbudget:\n")).budget == Budget()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "must hold fields such as 'model:' and 'data:'."),
        ("", "must hold fields such as 'model:' and 'data:'."),
        ("model: [", "is not valid YAML: while parsing a flow node did not find expected node content"),
        ("model: café".encode("latin-1"), "is not valid YAML: "),
        ("model: m\ndata: d\nbudget: {memory: 8192}\n", "memory: 8192 bytes? Write 8192MiB."),
        ("model: m\ndata: d\ntime: 1.5\n", "time: 1.5 seconds? Write 1.5h or 1.5m or 1.5s."),
        ("model: m\ndata: d\nbudget: 8GiB\n", "budget must hold limits such as 'memory: 8GiB', not '8GiB'."),
    ],
)
def test_a_file_that_holds_no_plan_is_answered_in_one_line(tmp_path, text, said):
    answer = complaint(Plan.from_yaml, write(tmp_path, text))
    assert said in answer
    assert "\n" not in answer


def test_a_number_in_a_file_may_be_bytes_or_seconds_where_it_is_large_enough(tmp_path):
    text = "model: m\ndata: d\ntime: 7200\nbudget: {memory: 8589934592, overhead: 0.05, score: 0.5}\n"
    plan = Plan.from_yaml(write(tmp_path, text))
    assert (plan.time, plan.budget) == (7200, Budget("8GiB", overhead=0.05, score=0.5))


def test_a_missing_plan_is_answered(tmp_path):
    path = tmp_path / "plan.yaml"
    assert complaint(Plan.from_yaml, path) == f"cannot read the plan '{path}': No such file or directory."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": -1}, "workers must be 0 or more, and whole, not -1."),
        ({"workers": 1.5}, "workers must be 0 or more, and whole, not 1.5."),
        ({"workers": "2"}, "workers must be 0 or more, and whole, not 2."),
        ({"gpus_per_trial": -0.5}, "gpus_per_trial must be 0 or more, not -0.5."),
        ({"gpus_per_trial": float("nan")}, "gpus_per_trial must be 0 or more, not nan."),
        ({"gpus_per_trial": float("inf")}, "gpus_per_trial must be 0 or more, not inf."),
        ({"workers": 10**5001}, "workers must be at most 1,000,000,000, not a whole number of about 5,001 digits."),
        ({"timeout": "30"}, "timeout: 30 seconds? Write 30h or 30m or 30s."),
        ({"timeout": "1e20"}, "timeout must be more than 0 seconds, and less than 30 years."),
        ({"folder": ["runs"]}, "folder must be a text, not ['runs']."),
    ],
)
def test_resources_that_cannot_be_are_refused(settings, said):
    assert complaint(Resources, **settings) == said


def test_a_fraction_of_a_gpu_and_no_worker_are_resources():
    assert Resources(workers=0, gpus_per_trial=0.5).gpus_per_trial == 0.5


@pytest.mark.parametrize("kind", [Plan, Budget, Resources])
def test_every_field_has_a_docstring(kind):
    docs = field_docs(kind)
    assert set(docs) == {field.name for field in fields(kind)}
    assert all(text.endswith(".") and text.strip() == text for text in docs.values())


def test_what_is_printed_of_resources_holds_no_password():
    assert "secret" not in repr(Resources(storage="postgresql://me:secret@host/name"))
