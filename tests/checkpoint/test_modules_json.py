"""modules.json and the configs of the head: both formats, and what is refused."""

import json

import pytest

from embergem.checkpoint.modules import parse_modules, read_modules
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Dense, Normalize, Pooling

OLD_TYPES = "sentence_transformers.models.{}"
NEW_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def write(root, *modules, types=OLD_TYPES.format):
    """Write modules.json and the configs of modules, given as (kind, path, config)."""
    rows = []
    for index, (kind, path, config) in enumerate(modules):
        rows.append({"idx": index, "name": str(index), "path": path, "type": types(kind)})
        if config is not None:
            (root / path).mkdir(parents=True, exist_ok=True)
            (root / path / "config.json").write_text(json.dumps(config))
    (root / "modules.json").write_text(json.dumps(rows))
    return root


def with_pooling(root, config, *more):
    return write(root, ("Transformer", "", None), ("Pooling", "1_Pooling", config), *more)


OLD_MEAN = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
DENSE = {"in_features": 8, "out_features": 4, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}


@pytest.mark.parametrize(
    ("key", "mode"),
    [
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_lasttoken", "last"),
        ("pooling_mode_max_tokens", "max"),
    ],
)
def test_the_old_format(tmp_path, key, mode):
    config = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": False, key: True, "include_prompt": True}
    with_pooling(tmp_path, config, ("Dense", "2_Dense", DENSE), ("Normalize", "3_Normalize", None))
    chain = read_modules(tmp_path)
    assert chain.transformer == ""
    assert chain.head == (Pooling(mode), Dense("2_Dense", 8, 4, False, None), Normalize())


@pytest.mark.parametrize(("mode", "ours"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last"), (["max"], "max")])
def test_the_new_format(tmp_path, mode, ours):
    write(
        tmp_path,
        ("Transformer", "", None),
        ("Pooling", "1_Pooling", {"embedding_dimension": 8, "pooling_mode": mode, "include_prompt": True}),
        ("Dense", "2_Dense", DENSE | {"module_input_name": "sentence_embedding", "module_output_name": None}),
        ("Normalize", "3_Normalize", {"module_input_name": "sentence_embedding"}),
        types=NEW_TYPES.get,
    )
    assert read_modules(tmp_path).head == (Pooling(ours), Dense("2_Dense", 8, 4, False, None), Normalize())


def test_missing_settings_have_the_defaults_of_sentence_transformers(tmp_path):
    with_pooling(tmp_path, {"word_embedding_dimension": 8}, ("Dense", "2_Dense", {"in_features": 8, "out_features": 4}))
    assert read_modules(tmp_path).head == (Pooling("mean"), Dense("2_Dense", 8, 4, True, "tanh"))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("torch.nn.modules.linear.Identity", None),
        (None, None),
        ("torch.nn.modules.activation.Tanh", "tanh"),
        ("torch.nn.modules.activation.GELU", "gelu_erf"),
        ("torch.nn.modules.activation.ReLU", "relu"),
        ("torch.nn.modules.activation.SiLU", "silu"),
        ("torch.nn.Sigmoid", "sigmoid"),
    ],
)
def test_activations(tmp_path, name, ours):
    with_pooling(tmp_path, OLD_MEAN, ("Dense", "2_Dense", DENSE | {"activation_function": name}))
    assert read_modules(tmp_path).head[1].activation == ours


def test_the_transformer_may_have_a_directory(tmp_path):
    (tmp_path / "0_Transformer").mkdir()
    write(tmp_path, ("Transformer", "0_Transformer", None), ("Pooling", "1_Pooling", OLD_MEAN))
    assert read_modules(tmp_path).transformer == "0_Transformer"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OLD_MEAN | {"pooling_mode_cls_token": True}, '["cls","mean"] together'),
        ({"word_embedding_dimension": 8, "pooling_mode_mean_sqrt_len_tokens": True}, '"mean_sqrt_len_tokens"'),
        ({"word_embedding_dimension": 8, "pooling_mode_weightedmean_tokens": True}, '"weightedmean"'),
        ({"word_embedding_dimension": 8, "pooling_mode_attention": True}, "pooling_mode_attention"),
        ({"embedding_dimension": 8, "pooling_mode": ["cls", "mean"]}, '["cls","mean"] together'),
        ({"embedding_dimension": 8, "pooling_mode": "weightedmean"}, '"weightedmean"'),
        ({"embedding_dimension": 8, "pooling_mode": 3}, "3"),
        ({"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
    ],
)
def test_unsupported_pooling_is_refused(tmp_path, config, message):
    with pytest.raises(UnsupportedModel) as error:
        read_modules(with_pooling(tmp_path, config))
    assert message in error.value.message
    assert "1_Pooling/config.json" in error.value.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DENSE | {"activation_function": "torch.nn.modules.activation.Mish"}, "torch.nn.modules.activation.Mish"),
        (DENSE | {"activation_function": "evil.module.Tanh"}, "evil.module.Tanh"),
        (DENSE | {"activation_function": 7}, "7"),
        (DENSE | {"use_residual": True}, "use_residual"),
        (DENSE | {"module_input_name": "token_embeddings"}, "token_embeddings"),
    ],
)
def test_unsupported_dense_settings_are_refused(tmp_path, config, message):
    with pytest.raises(UnsupportedModel) as error:
        read_modules(with_pooling(tmp_path, OLD_MEAN, ("Dense", "2_Dense", config)))
    assert message in error.value.message
    assert "2_Dense/config.json" in error.value.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DENSE | {"in_features": 9}, "in_features is 9, but the module before it gives 8"),
        (DENSE | {"out_features": 0}, "out_features"),
        (DENSE | {"out_features": True}, "out_features"),
        (DENSE | {"bias": "no"}, 'bias should be true or false, found "no"'),
        ([], "found []"),
    ],
)
def test_contradicting_dense_settings_are_refused(tmp_path, config, message):
    with pytest.raises(CorruptCheckpoint) as error:
        read_modules(with_pooling(tmp_path, OLD_MEAN, ("Dense", "2_Dense", config)))
    assert message in error.value.message
    assert "2_Dense/config.json" in error.value.message


def test_normalize_of_another_value_is_refused(tmp_path):
    with_pooling(tmp_path, OLD_MEAN, ("Normalize", "2_Normalize", {"module_input_name": "token_embeddings"}))
    with pytest.raises(UnsupportedModel, match="token_embeddings"):
        read_modules(tmp_path)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(CorruptCheckpoint, match=r"1_Pooling/config\.json is missing"):
        read_modules(with_pooling(tmp_path, None))


@pytest.mark.parametrize("kind", ["LayerNorm", "Dropout", "WordEmbeddings", "Router", "CNN"])
def test_an_unknown_module_is_an_error(tmp_path, kind):
    with_pooling(tmp_path, OLD_MEAN, (kind, "2", None))
    with pytest.raises(UnsupportedModel, match=rf"sentence_transformers\.models\.{kind}"):
        read_modules(tmp_path)


def test_code_of_a_model_is_refused_even_under_a_known_class_name(tmp_path):
    with_pooling(tmp_path, OLD_MEAN, ("Normalize", "2", None))
    text = (tmp_path / "modules.json").read_text()
    (tmp_path / "modules.json").write_text(
        text.replace("sentence_transformers.models.Normalize", "custom_st.Normalize")
    )
    with pytest.raises(UnsupportedModel, match=r"custom_st\.Normalize"):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    "kinds",
    [
        ["Transformer"],
        ["Pooling", "Transformer"],
        ["Transformer", "Normalize", "Pooling"],
        ["Transformer", "Transformer", "Pooling"],
        ["Transformer", "Pooling", "Pooling"],
    ],
)
def test_orders_without_an_embedding_are_refused(kinds):
    rows = json.dumps([{"type": OLD_TYPES.format(kind), "path": f"{i}"} for i, kind in enumerate(kinds)]).encode()
    with pytest.raises(UnsupportedModel, match="Pooling"):
        parse_modules(rows, "modules.json")


@pytest.mark.parametrize("path", ["/etc", "..", "../other", "1_Pooling/../../other", "C:\\other", "a\\..\\b", "x\0y"])
def test_a_path_out_of_the_directory_is_refused(tmp_path, path):
    rows = [{"type": OLD_TYPES.format("Transformer"), "path": ""}, {"type": OLD_TYPES.format("Pooling"), "path": path}]
    (tmp_path / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(CorruptCheckpoint) as error:
        read_modules(tmp_path)
    assert json.dumps(path) in error.value.message


def test_a_link_out_of_the_directory_is_refused(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "model"
    outside.mkdir()
    root.mkdir()
    with_pooling(outside, OLD_MEAN)
    with_pooling(root, None)
    (root / "1_Pooling").symlink_to(outside / "1_Pooling")
    with pytest.raises(CorruptCheckpoint, match='"1_Pooling" is a link out'):
        read_modules(root)


def test_a_link_to_itself_is_an_error(tmp_path):
    with_pooling(tmp_path, None)
    (tmp_path / "1_Pooling").symlink_to("1_Pooling")
    with pytest.raises(CorruptCheckpoint, match="1_Pooling"):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1, 2", '{"type": 1}', "[]", "null", "[1]", '[{"type": "x"}]', '[{"type": 1, "path": ""}]',
        '[{"type": "sentence_transformers.models.Transformer", "path": null}]', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_without_a_list_of_modules_is_refused(tmp_path, text):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(CorruptCheckpoint, match=r"modules\.json"):
        read_modules(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "modules.json").write_bytes(b"\xff\x00\xfe[")
    with pytest.raises(CorruptCheckpoint, match=r"modules\.json is not valid JSON"):
        read_modules(tmp_path)


def test_a_missing_modules_json_says_what_to_do(tmp_path):
    with pytest.raises(CorruptCheckpoint, match="Load this model with sentence-transformers and save it"):
        read_modules(tmp_path)
