"""A trained method as a folder: what is saved is what is loaded, exported and merged, also by others' libraries."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, T5EncoderModel

import autopeft
from autopeft.artifacts import Description, export, load, loading, read_description
from autopeft.backbone.load import load_backbone, quietly
from autopeft.errors import AutopeftError, CannotMerge
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from tests.backbone.architectures import new
from tests.saved import saved
from tests.tiny import tiny
from tests.trained import LABELS, PAIRS, TEXTS, artifact, of_pairs

EVERYTHING = {
    "lora": ["lora"],
    "ia3": ["ia3"],
    "bitfit": ["bitfit"],
    "adapter": ["adapter"],
    "prompt_tuning": ["prompt_tuning"],
    "mixture": ["lora", "ia3", "bitfit"],
    "hybrid": ["lora_parallel"],
}
MERGEABLE = ("lora", "ia3", "bitfit", "mixture")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    folders = {name: saved(root / name, name) for name in ("bert", "gpt2")}
    return {**folders, "t5": saved(root / "t5", model=new("t5"))}


@pytest.fixture
def lora(backbones, tmp_path):
    """A folder of a trained LoRA and the logits that it gave."""
    logits, _ = artifact(tmp_path / "lora", backbones["bert"], ["lora"])
    return tmp_path / "lora", logits


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_what_was_saved_gives_equal_logits_when_loaded(name, pooling, backbones, tmp_path):
    logits, pairs = artifact(tmp_path / "winner", backbones["bert"], EVERYTHING[name], pooling)
    trained = load(tmp_path / "winner")
    assert torch.equal(trained.logits(TEXTS), logits)
    assert torch.equal(of_pairs(trained).logits(PAIRS), pairs)
    assert trained.task.classes == LABELS
    assert trained.predict(TEXTS) == [LABELS[index] for index in logits.argmax(-1)]


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_decoders_and_encoders_of_encoder_decoders_are_saved_and_merged_too(architecture, backbones, tmp_path):
    logits, _ = artifact(tmp_path / "winner", backbones[architecture], ["lora"], "last")
    assert torch.equal(load(tmp_path / "winner").logits(TEXTS), logits)
    merged = load(export(tmp_path / "winner", tmp_path / "merged", merge=True))
    assert torch.allclose(merged.logits(TEXTS), logits, atol=1e-4)
    assert isinstance(merged.backbone.model, T5EncoderModel) == (architecture == "t5")


def test_a_loaded_model_predicts_in_batches_of_any_size_and_nothing_of_nothing(lora):
    folder, logits = lora
    trained = autopeft.load(folder)
    for size in (1, 3):
        assert torch.allclose(trained.logits(TEXTS, batch_size=size), logits, atol=1e-5)
    assert trained.logits([]).shape == (0, len(LABELS))
    assert trained.predict([]) == []


def test_one_text_gives_one_class_and_a_list_a_list(lora):
    trained = load(lora[0])
    one, many = trained.predict("w7 w8 w9"), trained.predict(["w7 w8 w9"])
    assert one in LABELS
    assert many == [one]
    assert torch.equal(trained.logits("w7 w8 w9"), trained.logits(["w7 w8 w9"])[0])
    pair = of_pairs(trained)
    assert [pair.predict(("w7", "w8"))] == pair.predict([("w7", "w8")])
    with pytest.raises(AutopeftError, match="row 1 is None"):
        trained.predict(["w7", None])
    with pytest.raises(AutopeftError, match=r"trained on pairs of texts such as .*; this is 'w7'"):
        pair.predict("w7")
    for size in (0, -1):
        with pytest.raises(AutopeftError, match=f"batch_size must be at least 1, not {size}"):
            trained.predict(TEXTS, size)


def test_a_loaded_model_lies_on_the_cpu_in_eval_mode(lora):
    trained = load(lora[0])
    assert {parameter.device.type for parameter in trained.model.parameters()} == {"cpu"}
    assert not any(module.training for module in trained.model.modules())
    assert trained.logits(TEXTS).is_inference()


def test_saving_replaces_an_earlier_folder_whole_and_leaves_nothing_beside_it(backbones, tmp_path):
    artifact(tmp_path / "winner", backbones["bert"], ["lora"])
    logits, _ = artifact(tmp_path / "winner", backbones["bert"], ["adapter"])
    assert [path.name for path in tmp_path.iterdir()] == ["winner"]
    assert not (tmp_path / "winner" / "adapter_config.json").exists()
    assert torch.equal(load(tmp_path / "winner").logits(TEXTS), logits)


@pytest.mark.parametrize("name", ["lora", "ia3", "prompt_tuning"])
def test_peft_itself_loads_an_exported_peft_method_with_equal_states(name, backbones, tmp_path):
    artifact(tmp_path / "winner", backbones["bert"], EVERYTHING[name])
    exported = export(tmp_path / "winner", tmp_path / "peft")
    trained, tokenizer = load(exported), AutoTokenizer.from_pretrained(backbones["bert"])
    bare = AutoModel.from_pretrained(backbones["bert"])
    theirs = peft.PeftModel.from_pretrained(bare, str(exported)).eval()
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = trained.attached.model(**inputs).last_hidden_state
        assert torch.equal(theirs(**inputs).last_hidden_state, expected)
    config = json.loads((exported / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(backbones["bert"])


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_plain_export_is_a_copy_that_loads_by_itself(name, backbones, tmp_path):
    logits, _ = artifact(tmp_path / "winner", backbones["bert"], EVERYTHING[name])
    exported = export(str(tmp_path / "winner"), str(tmp_path / "deep" / "copy"))
    shutil.rmtree(tmp_path / "winner")
    assert exported == tmp_path / "deep" / "copy"
    assert torch.equal(load(exported).logits(TEXTS), logits)


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_merged_export_is_a_plain_model_with_equal_logits_or_is_refused(name, backbones, tmp_path):
    logits, _ = artifact(tmp_path / "winner", backbones["bert"], EVERYTHING[name])
    if name not in MERGEABLE:
        with pytest.raises(CannotMerge, match="cannot be merged into the weights: it adds computation"):
            export(tmp_path / "winner", tmp_path / "merged", merge=True)
        assert not (tmp_path / "merged").exists()
        return
    merged = load(export(tmp_path / "winner", tmp_path / "merged", merge=True))
    assert merged.attached is None
    assert type(merged.backbone.model) is type(tiny("bert"))
    assert torch.allclose(merged.logits(TEXTS), logits, atol=1e-4)
    assert merged.predict(TEXTS) == [LABELS[index] for index in logits.argmax(-1)]


def test_transformers_itself_loads_a_merged_folder(lora, tmp_path):
    folder, _ = lora
    merged = export(folder, tmp_path / "merged", merge=True)
    with quietly():
        plain, tokenizer = AutoModel.from_pretrained(merged).eval(), AutoTokenizer.from_pretrained(merged)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    trained = load(folder)
    with torch.no_grad():
        expected = trained.attached.model(**inputs).last_hidden_state
        assert torch.allclose(plain(**inputs).last_hidden_state, expected, atol=1e-5)


def test_a_merged_folder_moves_with_its_model_and_takes_no_other(lora, tmp_path):
    folder, logits = lora
    export(folder, tmp_path / "merged", merge=True)
    shutil.rmtree(folder)
    moved = (tmp_path / "merged").rename(tmp_path / "elsewhere")
    assert torch.allclose(load(moved).logits(TEXTS), logits, atol=1e-4)
    assert read_description(moved)[0].fingerprint == ""
    with pytest.raises(AutopeftError, match="holds the merged model itself; it goes on no other backbone"):
        load(moved, model="bert-base-uncased")
    with pytest.raises(AutopeftError, match="is merged already"):
        export(moved, tmp_path / "again", merge=True)


def test_where_the_backbone_was_moved_to_can_be_said(backbones, tmp_path):
    here = Path(shutil.copytree(backbones["bert"], tmp_path / "here"))
    logits, _ = artifact(tmp_path / "winner", here, ["lora"])
    there = here.rename(tmp_path / "there")
    with pytest.raises(AutopeftError) as caught:
        load(tmp_path / "winner")
    answer = str(caught.value)
    assert f"there is no model folder '{here}'" in answer
    assert answer.endswith(f"If its backbone lies elsewhere now, say where: load('{tmp_path / 'winner'}', model=...).")
    assert torch.equal(load(tmp_path / "winner", model=str(there)).logits(TEXTS), logits)
    for merge in (False, True):
        exported = export(tmp_path / "winner", tmp_path / f"exported-{merge}", merge, str(there))
        assert torch.allclose(load(exported).logits(TEXTS), logits, atol=1e-4)


def test_a_backbone_of_another_architecture_is_refused(backbones, lora):
    with (
        pytest.warns(UserWarning, match="holds other weights than those"),
        pytest.raises(AutopeftError, match=r"does not belong to this model and method"),
    ):
        load(lora[0], model=str(backbones["gpt2"]))


@pytest.mark.parametrize("merge", [False, True])
def test_nothing_is_exported_over_what_is_there(merge, lora, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("five years")
    (tmp_path / "file").write_text("text")
    for target in ("full", "file"):
        with pytest.raises(AutopeftError, match=f"{target}' exists and is not an empty folder; give another one"):
            export(lora[0], tmp_path / target, merge)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "five years"
    (tmp_path / "empty").mkdir()
    assert (export(lora[0], tmp_path / "empty", merge) / "autopeft.json").exists()


@pytest.mark.parametrize("request_", [load, read_description, lambda folder: export(folder, folder / "to")])
def test_a_folder_that_autopeft_did_not_write_is_refused(request_, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(AutopeftError, match="is no folder of a trained method: autopeft"):
            request_(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "autopeft.json").write_text("{"),
        lambda folder: (folder / "autopeft.json").write_text('{"description": {"labels": []}}'),
        lambda folder: (folder / "head.safetensors").unlink(),
        lambda folder: (folder / "head.safetensors").write_bytes(b"no weights"),
        lambda folder: (folder / "method.json").unlink(),
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"no weights"),
    ],
    ids=["no json", "half", "no head", "damaged head", "no method", "damaged method"],
)
def test_a_damaged_folder_is_refused_in_one_sentence_that_names_it(spoil, lora):
    folder, _ = lora
    spoil(folder)
    with pytest.raises(AutopeftError) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_description_says_what_the_method_was_trained_on(backbones, lora):
    description, candidate = read_description(lora[0])
    fingerprint = load_backbone(str(backbones["bert"])).fingerprint
    task = TextClassification(("text",), LABELS)
    assert description == Description(str(backbones["bert"]), task, 16, fingerprint, None, "float32")
    assert candidate == Candidate("lora", (Part("lora"),), Training(pooling="mean"))
    assert asdict(load(lora[0]).description) == asdict(description)


def test_exporting_is_quiet(lora, tmp_path, capfd):
    export(lora[0], tmp_path / "merged", merge=True)
    assert capfd.readouterr() == ("", "")


def test_a_method_trained_by_hand_is_saved_in_the_same_way(backbones, tmp_path):
    living = load_backbone(str(backbones["bert"]))
    with attach(living.model, method("lora", rank=2)) as attached:
        attached.save(tmp_path / "method")
    assert {path.name for path in (tmp_path / "method").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "method.json",
    }


def test_a_changed_backbone_is_refused_and_where_it_is_named_told(backbones, tmp_path):
    here = Path(shutil.copytree(backbones["bert"], tmp_path / "here"))
    logits, _ = artifact(tmp_path / "winner", here, ["lora"])
    saved(here, model=tiny("bert", seed=1))
    with pytest.raises(AutopeftError) as caught:
        load(tmp_path / "winner")
    assert f"'{here}' holds other weights than those that '{tmp_path / 'winner'}' was trained on" in str(caught.value)
    assert str(caught.value).endswith(f"load('{tmp_path / 'winner'}', model='{here}').")
    with pytest.warns(UserWarning, match="its answers are others than those that were measured"):
        assert not torch.allclose(load(tmp_path / "winner", model=str(here)).logits(TEXTS), logits, atol=1e-2)
    for merge, model in ((True, None), (False, None), (False, str(here) + "/")):
        with pytest.raises(AutopeftError, match="holds other weights"):
            export(tmp_path / "winner", tmp_path / "exported", merge, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "winner"]


def test_a_folder_that_knows_nothing_of_its_backbones_weights_loads(lora):
    folder, logits = lora
    plain = json.loads((folder / "autopeft.json").read_text())
    for name in ("fingerprint", "revision", "precision"):
        del plain[name]
    (folder / "autopeft.json").write_text(json.dumps(plain))
    assert torch.equal(load(folder).logits(TEXTS), logits)


def test_a_folder_of_the_first_version_loads_as_text_classification(lora):
    folder, logits = lora
    plain = json.loads((folder / "autopeft.json").read_text())
    candidate, task = plain.pop("candidate"), plain.pop("task")
    assert plain.pop("version") == 2
    before = {**plain, "task": task["name"], "labels": task["classes"], "text": task["text"]}
    (folder / "autopeft.json").write_text(json.dumps({"description": before, "candidate": candidate}))
    assert torch.equal(load(folder).logits(TEXTS), logits)
    assert load(folder).task == TextClassification(("text",), LABELS)


@pytest.mark.parametrize("merge", [False, True])
def test_an_export_that_answers_otherwise_is_refused_and_nothing_of_it_is_left(merge, lora, tmp_path, monkeypatch):
    """As when what was written is read in another way than it was meant."""
    (tmp_path / "empty").mkdir()
    read = loading.read_tensors

    def otherwise(file):
        found = read(file)
        return (
            {name: tensor + 0.1 * (name == "weight") for name, tensor in found.items()}
            if file.parent.name.endswith(".writing")
            else found
        )

    monkeypatch.setattr(loading, "read_tensors", otherwise)
    for target in ("empty", "winner"):
        with pytest.raises(AutopeftError, match="loaded again, its logits differ by"):
            export(lora[0], tmp_path / target, merge)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "lora"]
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), Exception("No space left on device")])
def test_a_disk_that_is_full_leaves_nothing_of_an_export(trouble, merge, lora, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()

    def full(*_, **__):
        raise trouble

    monkeypatch.setattr("autopeft.artifacts.saving.save_file" if merge else "shutil.copystat", full)
    for target in ("empty", "winner"):
        with pytest.raises(AutopeftError, match=f"{target}' cannot be written: .*No space left on device"):
            export(lora[0], tmp_path / target, merge)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "lora"]
    assert not list((tmp_path / "empty").iterdir())
    monkeypatch.undo()
    assert (export(lora[0], tmp_path / "empty", merge) / "autopeft.json").exists()


@pytest.mark.parametrize("there", [False, True])
def test_only_what_an_export_or_a_saving_made_itself_is_removed(there, backbones, lora, tmp_path):
    thesis = tmp_path / "winner.writing" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("five years")
    if there:
        (tmp_path / "winner").mkdir()
    export(lora[0], tmp_path / "winner")
    artifact(tmp_path / "winner", backbones["bert"], ["bitfit"])
    assert thesis.read_text() == "five years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora", "winner", "winner.writing"]


def test_two_exports_to_one_empty_folder_do_not_meet(lora, tmp_path):
    theirs = tmp_path / "empty" / ".autopeft.writing" / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    with pytest.raises(AutopeftError, match=r"\.autopeft\.writing' is there: another export writes to"):
        export(lora[0], tmp_path / "empty")
    assert [*(tmp_path / "empty").iterdir()] == [theirs.parent]
    assert theirs.exists()


def test_saving_replaces_nothing_but_a_trained_method(backbones, tmp_path):
    (tmp_path / "2023").mkdir()
    (tmp_path / "2023" / "thesis.txt").write_text("five years")
    (tmp_path / "file").write_text("five years")
    for name in ("2023", "file"):
        with pytest.raises(AutopeftError, match=f"{name}' holds no trained method, but something else"):
            artifact(tmp_path / name, backbones["bert"], ["bitfit"])
    assert (tmp_path / "2023" / "thesis.txt").read_text() == (tmp_path / "file").read_text() == "five years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2023", "file"]


def test_an_empty_folder_that_is_exported_to_stays_the_folder_that_it_was(lora, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    before = (tmp_path / "empty").stat().st_ino
    monkeypatch.chdir(tmp_path / "empty")
    export(lora[0], ".")
    assert (tmp_path / "empty").stat().st_ino == before
    added = {path.name for path in Path().iterdir()} - {path.name for path in lora[0].iterdir()}
    assert added == {"README.md", "config.json"}


def test_links_that_lead_out_of_a_folder_are_not_exported(lora, tmp_path):
    (tmp_path / "secret").write_text("key")
    (lora[0] / "notes").symlink_to(tmp_path / "secret")
    with pytest.raises(AutopeftError, match="notes' leads out of the folder"):
        export(lora[0], tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_model_whose_padding_token_is_another_than_its_tokenizers_is_merged_without_a_change(tmp_path):
    """RoBERTa counts positions from its own padding token: with another they would shift when it is loaded again."""
    model = new("roberta")
    assert model.config.pad_token_id == 1
    backbone = saved(tmp_path / "backbone", model=model)
    assert load_backbone(str(backbone)).tokenizer.pad_token_id == 0
    logits, _ = artifact(tmp_path / "winner", backbone, ["lora"])
    merged = load(export(tmp_path / "winner", tmp_path / "merged", merge=True))
    assert torch.allclose(merged.logits(TEXTS), logits, atol=1e-4)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["pad_token_id"] == 1


def test_predictions_repeat_the_precision_of_training(lora, monkeypatch):
    folder, logits = lora
    plain = json.loads((folder / "autopeft.json").read_text())
    plain["precision"] = "bfloat16"
    (folder / "autopeft.json").write_text(json.dumps(plain))
    for has_it in (True, False):
        monkeypatch.setattr(precision, "has_bf16", lambda _, has_it=has_it: has_it)
        assert torch.equal(load(folder).logits(TEXTS), logits) != has_it
        assert torch.allclose(load(folder).logits(TEXTS), logits, atol=0.1)


@pytest.mark.parametrize("where", ["cpu", torch.device("cpu"), None])
def test_a_device_can_be_named(where, lora):
    assert torch.equal(load(lora[0], device=where).logits(TEXTS), lora[1])


@pytest.mark.parametrize("where", ["gpu", "cuda:99", "meta:x", 5.5])
def test_a_device_that_is_not_there_is_refused(where, lora):
    with pytest.raises(AutopeftError, match=r"is no device of this machine: "):
        load(lora[0], device=where)


def test_a_device_that_computes_nothing_is_refused(lora):
    with pytest.raises(AutopeftError, match=r"^'meta' is no device of this machine: it .* computes nothing\.$"):
        load(lora[0], device="meta")


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.1), (torch.float16, 0.02), ("float32", 0.0)])
def test_weights_can_be_held_in_half_the_memory_with_near_answers(name, dtype, near, backbones, tmp_path):
    logits, _ = artifact(tmp_path / "winner", backbones["bert"], EVERYTHING[name])
    trained = load(tmp_path / "winner", dtype=dtype)
    held = {str(each.dtype) for each in trained.backbone.model.state_dict().values() if each.is_floating_point()}
    assert f"torch.{dtype}".replace("torch.torch", "torch") in held
    assert torch.allclose(trained.logits(TEXTS), logits, atol=near * float(logits.abs().max()))


@pytest.mark.parametrize("dtype", ["bf16", "int4", torch.float64, 16, ""])
def test_another_dtype_is_refused(dtype, lora):
    with pytest.raises(AutopeftError, match=r"^unknown dtype .*bfloat16"):
        load(lora[0], dtype=dtype)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("name", ["lora", "prompt_tuning"])
def test_peft_loads_a_method_on_a_model_with_its_own_head_where_a_task_has_such(
    name, architecture, tmp_path, monkeypatch
):
    monkeypatch.setattr(TextClassification, "auto_class", "AutoModelForCausalLM")
    monkeypatch.setattr(TextClassification, "peft_type", "CAUSAL_LM")
    backbone = saved(tmp_path / "backbone", architecture)
    logits, _ = artifact(tmp_path / "winner", backbone, [name])
    folder = export(tmp_path / "winner", tmp_path / "given")
    assert json.loads((folder / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    again = load(folder)
    assert torch.allclose(again.logits(TEXTS), logits, atol=1e-4)
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(str(folder)).eval()
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.no_grad():
        bare = theirs(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        own = again.model.model(input_ids=ids).last_hidden_state
    assert torch.allclose(bare[:, -4:], own[:, -4:], atol=1e-5)
