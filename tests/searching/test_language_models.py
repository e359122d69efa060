"""A whole search on a tiny language model: from rows to a report, and to winners that are asked elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as t

import autopeft
from autopeft.errors import AutopeftError
from autopeft.reports import render
from autopeft.trial import Status
from tests.tasks.examples import made_for
from tests.tasks.test_text_generation import CHATML

WORDS = ("bad", "fair", "good")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> autopeft.Search:
    """Rows whose completions can be learned: a word that the prompt holds."""
    from autopeft.tasks.text_generation import TextGeneration

    folder = made_for(TextGeneration, tmp_path_factory.mktemp("place"))
    for split, count in (("train", 48), ("validation", 24)):
        rows = [{"prompt": f"film {WORDS[n % 3]} w{n % 7} ", "completion": WORDS[n % 3]} for n in range(count)]
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autopeft.searching.sitting.SPARE", 600.0)
        return autopeft.search(
            model=str(folder / "model"),
            data=str(folder / "data"),
            space="quick",
            methods="lora,adapter",
            trials=2,
            keep="all",
            sampler="random",
            workers=0,
            name="words",
            storage=f"sqlite:///{folder / 'searches.db'}",
            folder=str(folder / "runs"),
        )


def test_its_trials_are_judged_by_the_loss_per_token_with_errors_beside_the_backbone_as_it_is(
    search: autopeft.Search,
) -> None:
    record = search.record
    assert (record.task, record.metric.name, record.metric.higher_is_better) == ("text-generation", "loss", False)
    assert {trial.status for trial in record.trials} == {Status.FINISHED}
    assert record.facts["max_length"] == 64, "1,024, but the model has no more positions"
    before = record.baselines["backbone as it is"]
    assert record.trivial == before.score > record.baselines["answers as often as in training"].score
    assert before.answers is not None
    assert before.answers.rows == 24
    best = min(record.trials, key=lambda trial: trial.score)
    assert best.score < before.score - 2 * before.error
    for trial in record.trials:
        assert [rung.score for rung in trial.curve] != []
        for rung in trial.curve:
            assert rung.others["perplexity"] == pytest.approx(torch.tensor(rung.score).exp().item(), rel=1e-4)
            assert rung.other_errors["perplexity"] == pytest.approx(rung.others["perplexity"] * rung.error, rel=1e-2)
            assert 0 <= rung.others["accuracy"] <= 1
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.predicted.memory == pytest.approx(trial.outcome.measured.memory, rel=0.03)


def test_nothing_goes_on_where_the_model_reads_other_tokens(search: autopeft.Search, tmp_path: Path) -> None:
    folder = shutil.copytree(search.plan.model, tmp_path / "model")
    others = folder / "tokenizer.json"
    others.write_text(others.read_text().replace('"w1"', '"w"').replace('"w2"', '"w1"').replace('"w"', '"w2"'))
    place = Path(search.plan.data).parent
    with pytest.raises(
        AutopeftError, match=r"reads other tokens of the data now than when search 'words' began: its tok"
    ):
        autopeft.resume("words", storage=f"sqlite:///{place / 'searches.db'}", trials=3, model=str(folder), workers=0)


def test_its_report_begins_with_whether_fine_tuning_beats_prompting(search: autopeft.Search) -> None:
    asked = [f"backbone with {count} in its prompt" for count in ("1 example", "4 examples", "8 examples")]
    baselines = search.record.baselines
    others = ["backbone as it is", "answers as often as in training"]
    assert [*baselines] == [*others, *asked], "all rows are asked, so that none is asked alone once more"
    assert [round(baselines[name].tokens or 0) for name in asked] == [pytest.approx(5 * n, abs=n) for n in (1, 4, 8)]
    assert baselines[asked[0]].rows == tuple(range(24))
    said = render(search.record, "terminal")
    assert said.startswith(("Fine-tuning beats prompting", "Fine-tuning does not beat", "Prompting beats fine-tuning"))
    assert "on the same 24 rows" in said
    in_table = " ".join(said.split())
    assert f"{asked[0]} ({baselines[asked[0]].tokens:.0f} tokens" in in_table
    assert "more per answer, 24 rows)" in in_table


def test_its_report_shows_what_was_read_and_what_scores_are(search: autopeft.Search) -> None:
    said = render(search.record, "terminal")
    assert "example 1, «learned»: film bad w0«bad [SEP]»" in " ".join(said.split())
    assert "less is better" in said
    assert "pooling" not in said
    assert "head from" not in said
    assert "backbone as it is" in said


def test_a_winner_gives_logits_of_the_next_token_and_the_loss_of_answers(search: autopeft.Search) -> None:
    best = min(search.trials, key=lambda trial: trial.score)
    loaded = autopeft.load(best.outcome.artifact)
    logits = loaded.logits(["film bad w1 ", "film good w1 "])
    words = [loaded.backbone.tokenizer.decode(row.argmax()) for row in logits]
    rows = [{"prompt": f"film {word} w1 ", "completion": word} for word in ("bad", "good")]
    assert loaded.logits("film bad w1 ").shape == logits[0].shape
    loss = loaded.loss(rows)
    assert 0 < loss < search.record.baselines["backbone as it is"].score
    assert loaded.loss(rows[0]) == pytest.approx(2 * loss - loaded.loss(rows[1]), rel=1e-3)
    assert len(words) == 2
    with pytest.raises(AutopeftError, match=r"a loss is one of an answer: give each example as a row of the data"):
        loaded.loss("film bad w1 ")


def test_a_winner_writes_what_comes_after_prompts_merged_or_not(search: autopeft.Search, tmp_path: Path) -> None:
    lora = next(trial for trial in search.trials if trial.candidate.name == "lora")
    loaded, merged = autopeft.load(lora.save(tmp_path / "winner")), autopeft.load(lora.save(tmp_path / "m", merge=True))
    prompts = ["film bad w1 ", {"prompt": "film good w2 ", "completion": "bad"}, "film w3 "]
    written = loaded.generate(prompts, max_new_tokens=4)
    assert loaded.predict(prompts) == loaded.generate(prompts), "which goes on for longer"
    assert [loaded.generate(prompt, max_new_tokens=4) for prompt in prompts] == written
    assert loaded.generate(prompts, max_new_tokens=4, batch_size=1) == written
    assert loaded.generate(["film good w2 "], max_new_tokens=4) == written[1:2], "an answer that is given is left out"
    assert merged.generate(prompts, max_new_tokens=4) == written
    heard: list[str] = []
    assert loaded.generate(prompts[0], max_new_tokens=4, stream=heard.append) == "".join(heard) == written[0]
    for wrong, answer in (
        ({"given": prompts, "stream": print}, "one text is streamed at a time, and 3 prompts were given"),
        ({"given": "film", "max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"given": "film", "batch_size": True}, "batch_size must be at least 1, not True"),
        ({"given": {"text": "film bad"}}, "there is nothing to go on with before an answer"),
        ({"given": "film " * 70}, "a prompt has 70 tokens, and the model reads 64"),
    ):
        with pytest.raises(AutopeftError, match=answer):
            loaded.generate(**wrong)


def test_a_merged_winner_is_transformers_own_language_model(search: autopeft.Search, tmp_path: Path) -> None:
    lora = next(trial for trial in search.trials if trial.candidate.name == "lora")
    folder = lora.save(tmp_path / "winner", merge=True)
    whole, tokenizer = t.AutoModelForCausalLM.from_pretrained(folder), t.AutoTokenizer.from_pretrained(folder)
    made = tokenizer("film bad w1 ", return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        found = whole(input_ids=made["input_ids"]).logits[0, -1]
    assert torch.allclose(found, autopeft.load(lora.outcome.artifact).logits("film bad w1 "), atol=0.05)
    with pytest.raises(AutopeftError, match="a language model goes into no ONNX file here: give --merge"):
        lora.save(tmp_path / "onnx", onnx=True)


def test_conversations_are_searched_too_and_a_winner_is_asked_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autopeft.tasks.text_generation import TextGeneration

    monkeypatch.setattr("autopeft.searching.sitting.SPARE", 600.0)
    folder = made_for(TextGeneration, tmp_path)
    tokenizer = t.AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "[SEP]")
    tokenizer.save_pretrained(folder / "model")
    for split, count in (("train", 24), ("validation", 12)):
        talks = [
            [{"from": "human", "value": f"film {WORDS[n % 3]}"}, {"from": "gpt", "value": WORDS[n % 3]}]
            for n in range(count)
        ]
        rows = [json.dumps({"conversations": talk}) + "\n" for talk in talks]
        (folder / "data" / f"{split}.jsonl").write_text("".join(rows))
    search = autopeft.search(
        model=str(folder / "model"),
        data=str(folder / "data"),
        space="quick",
        methods="lora",
        trials=1,
        confirm=1,
        workers=0,
        name="talks",
        storage=f"sqlite:///{folder / 'searches.db'}",
        folder=str(folder / "runs"),
    )
    (trial,) = search.trials
    assert trial.status is Status.FINISHED
    assert [each.status for each in search.record.confirmations] == [Status.FINISHED]
    baselines = search.record.baselines
    assert baselines["backbone with 1 example in its prompt"].rows == tuple(range(12))
    where = {"storage": f"sqlite:///{folder / 'searches.db'}", "folder": str(folder / "runs"), "workers": 0}
    assert autopeft.resume("talks", trials=2, **where).record.baselines == baselines
    loaded = autopeft.load(trial.outcome.artifact)
    asked = [{"role": "user", "content": "film bad"}]
    assert torch.equal(loaded.logits(asked), loaded.logits("film bad"))
    assert loaded.loss({"messages": [*asked, {"role": "assistant", "content": "bad"}]}) > 0
