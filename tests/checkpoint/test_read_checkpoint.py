"""`read_checkpoint`: directories as sentence-transformers saves them, and damaged ones."""

import json
import shutil

import pytest
from goldens import DATA

from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import CorruptCheckpoint, UnsupportedModel, UnsupportedOption
from embergem.models.head import Dense, Normalize, Pooling


def read_at(directory):
    return read_checkpoint(Location(directory.name, directory))


def edit(file, **changes):
    """Set keys of a JSON file; None removes a key."""
    values = json.loads(file.read_text()) if file.exists() else {}
    values = {key: value for key, value in (values | changes).items() if value is not None}
    file.write_text(json.dumps(values))


def test_a_model_as_sentence_transformers_saves_it(model):
    checkpoint = read_at(model)
    assert checkpoint.config["model_type"] == "gemma3_text"
    assert checkpoint.head == (
        Pooling("mean"),
        Dense("2_Dense", 96, 256, False, None),
        Dense("3_Dense", 256, 96, False, None),
        Normalize(),
    )
    assert checkpoint.weights == (
        ("", model / "model.safetensors"),
        ("2_Dense.", model / "2_Dense" / "model.safetensors"),
        ("3_Dense.", model / "3_Dense" / "model.safetensors"),
    )
    assert checkpoint.tokenizer == model / "tokenizer.json"
    assert checkpoint.prompts == (model / "config_sentence_transformers.json").read_text()
    assert checkpoint.limit == 128


def without_dense(model):
    rows = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([row for row in rows if not row["type"].endswith("Dense")]))


def test_dense_layers_of_another_model(model):
    without_dense(model)
    filled = read_checkpoint(Location("tiny", model, dense_from=DATA / "gemma3_text"))
    assert filled.head == read_at(DATA / "gemma3_text").head
    assert filled.weights == (
        ("", model / "model.safetensors"),
        ("2_Dense.", DATA / "gemma3_text" / "2_Dense" / "model.safetensors"),
        ("3_Dense.", DATA / "gemma3_text" / "3_Dense" / "model.safetensors"),
    )
    assert not any(isinstance(module, Dense) for module in read_at(model).head)


def test_dense_layers_of_another_model_that_do_not_fit_are_refused(model):
    other = DATA / "gemma3_text"
    with pytest.raises(UnsupportedOption, match=r"dense_from=.*tiny has 2 dense layers of its own"):
        read_checkpoint(Location("tiny", model, dense_from=other))
    for name in ("bert_mean", "static", "embedding_gemma2"):
        with pytest.raises(UnsupportedOption, match=f"{name} is of a family without dense layers"):
            read_checkpoint(Location(name, DATA / name, dense_from=other))
    without_dense(model)
    with pytest.raises(CorruptCheckpoint, match="bert_mean has no dense layers to take"):
        read_checkpoint(Location("tiny", model, dense_from=DATA / "bert_mean"))
    edit(model / "config.json", hidden_size=64)
    with pytest.raises(UnsupportedOption, match="take vectors of 96 numbers, and tiny has 64"):
        read_checkpoint(Location("tiny", model, dense_from=other))


GOLDEN_NAMES = sorted(path.parent.name for path in DATA.glob("*/modules.json"))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_every_golden_checkpoint_is_read(name):
    checkpoint = read_at(DATA / name)
    limits = {"static": 512, "static_int8": 512, "static_quantised": 512, "static_embedding": 300}
    assert checkpoint.limit == limits.get(name, 128)
    assert isinstance(checkpoint.head[0], Pooling)
    assert all(path.is_file() for _, path in checkpoint.weights)


def test_without_prompts(model):
    (model / "config_sentence_transformers.json").unlink()
    assert read_at(model).prompts is None


def test_a_transformer_in_a_directory_of_its_own(model):
    body = model / "0_Transformer"
    body.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"):
        shutil.move(model / name, body / name)
    rows = json.loads((model / "modules.json").read_text())
    rows[0]["path"] = "0_Transformer"
    (model / "modules.json").write_text(json.dumps(rows))
    checkpoint = read_at(model)
    assert checkpoint.weights[0] == ("", body / "model.safetensors")
    assert checkpoint.tokenizer == body / "tokenizer.json"
    assert checkpoint.limit == 128


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "3_Dense/model.safetensors"])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(CorruptCheckpoint) as error:
        read_at(model)
    assert str(model / name) in error.value.message


@pytest.mark.parametrize(
    "name", ["config.json", "sentence_bert_config.json", "config_sentence_transformers.json", "2_Dense/config.json"]
)
@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff\xfe", b'{"a":' * 50_000])
def test_a_damaged_json_file_is_named(model, name, data):
    (model / name).write_bytes(data)
    with pytest.raises(CorruptCheckpoint) as error:
        read_at(model)
    assert str(model / name) in error.value.message


def test_a_directory_instead_of_a_file_is_refused(model):
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    with pytest.raises(CorruptCheckpoint, match=r"config\.json cannot be read: Is a directory"):
        read_at(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf", "model.pt"])
def test_other_formats_are_refused_by_name(model, name):
    (model / "model.safetensors").rename(model / name)
    with pytest.raises(UnsupportedModel, match=f"{name} is not read"):
        read_at(model)


def index(model, weight_map):
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_come_from_the_index(model):
    shutil.copy(model / "model.safetensors", model / "model-00002-of-00002.safetensors")
    index(model, {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00001.safetensors"})
    assert [path.name for prefix, path in read_at(model).weights if prefix == ""] == [
        "model-00001-of-00001.safetensors",
        "model-00002-of-00002.safetensors",
    ]


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "model-00009-of-00009.safetensors"}, "model-00009-of-00009.safetensors is missing"),
        ({"a": "../model.safetensors"}, '"../model.safetensors"'),
        ({"a": "/etc/x.safetensors"}, '"/etc/x.safetensors"'),
        ({"a": "pytorch_model.bin"}, '"pytorch_model.bin"'),
        ({"a": 3}, "weight_map"),
        ({}, "weight_map"),
        ([], "weight_map"),
    ],
)
def test_a_wrong_index_is_refused(model, weight_map, message):
    index(model, weight_map)
    with pytest.raises(CorruptCheckpoint) as error:
        read_at(model)
    assert message in error.value.message


def test_without_max_seq_length_the_smaller_of_tokenizer_and_positions_is_the_limit(model):
    assert read_at(model).limit_declared
    edit(model / "sentence_bert_config.json", max_seq_length=None)
    assert read_at(model).limit == 160  # max_position_embeddings
    assert not read_at(model).limit_declared
    edit(model / "tokenizer_config.json", model_max_length=99)
    assert read_at(model).limit == 99
    edit(model / "tokenizer_config.json", model_max_length=1000000000000000019884624838656)
    assert read_at(model).limit == 160
    edit(model / "tokenizer_config.json", model_max_length=1e30)
    assert read_at(model).limit == 160


def test_a_checkpoint_without_a_limit_is_refused(model):
    (model / "sentence_bert_config.json").unlink()
    edit(model / "config.json", max_position_embeddings=None)
    with pytest.raises(CorruptCheckpoint, match="how many tokens"):
        read_at(model)


@pytest.mark.parametrize("value", [0, -1, "128", True, 1.5])
def test_an_invalid_limit_is_refused(model, value):
    edit(model / "sentence_bert_config.json", max_seq_length=value)
    with pytest.raises(CorruptCheckpoint, match="max_seq_length should be a whole number above 0"):
        read_at(model)


def test_a_limit_past_the_position_table_is_lowered_with_a_warning(tmp_path, caplog):
    directory = tmp_path / "bert"
    shutil.copytree(DATA / "bert_mean", directory)
    positions = json.loads((directory / "config.json").read_text())["max_position_embeddings"]
    edit(directory / "sentence_bert_config.json", max_seq_length=positions + 1)
    assert read_at(directory).limit == positions
    assert f"the limit is {positions + 1}, but" in caplog.text


def test_rotary_positions_do_not_lower_the_limit(model):
    edit(model / "sentence_bert_config.json", max_seq_length=500)
    assert read_at(model).limit == 500


def test_do_lower_case_without_a_lowercasing_tokenizer_is_refused(model):
    edit(model / "sentence_bert_config.json", do_lower_case=True)
    with pytest.raises(UnsupportedModel, match="do_lower_case"):
        read_at(model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert read_at(model).limit == 128


def test_other_tasks_are_refused(model):
    edit(model / "sentence_bert_config.json", transformer_task="fill-mask")
    with pytest.raises(UnsupportedModel, match="fill-mask"):
        read_at(model)
