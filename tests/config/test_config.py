"""Settings from files, the environment and flags."""

import json

import pytest

from embergem.config import EmbeddingEntry, UpstreamEntry, read_config
from embergem.errors import InvalidConfig
from embergem.options import LoadOptions

TOML = """
[server]
port = 8001
task = "query"
keys = "keys.toml"

[models.gemma]
model_id = "google/embeddinggemma-300m"
arch = "embeddinggemma"
aliases = ["embed", "search"]
dtype = "bf16"
lazy = true
keep_alive = 300

[models.chat]
upstream = "http://localhost:8000/v1"

[[keys]]
name = "mine"
sha256 = "%s"
"""


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_json_selectors_are_read(write):
    file = write(
        "models.json",
        {
            "embed-gemma": {"Embedding": {"model_id": "google/embeddinggemma-300m", "arch": "embeddinggemma"}},
            "q": {"Embedding": {"model_id": "q", "dtype": "auto", "topology": None}, "alias": "qwen"},
            "llama": {"Plain": {"model_id": "meta/llama"}, "upstream": "http://localhost:8000/v1"},
        },
    )
    gemma, qwen, llama = read_config(file, {}, {}).models
    assert gemma == EmbeddingEntry(
        name="embed-gemma", options=LoadOptions(model="google/embeddinggemma-300m", arch="embeddinggemma")
    )
    assert (qwen.aliases, qwen.options.dtype) == (("qwen",), "auto")
    assert llama == UpstreamEntry(name="llama", upstream="http://localhost:8000/v1", upstream_model="meta/llama")


def test_toml_has_models_settings_and_keys(write):
    write("keys.toml", f'[[keys]]\nname = "theirs"\nsha256 = "{"b" * 64}"\nadmin = true\n')
    config = read_config(write("server.toml", TOML % ("a" * 64)), {}, {})
    gemma, chat = config.models
    assert (gemma.options.dtype, gemma.aliases, gemma.lazy, gemma.keep_alive) == (
        "bfloat16",
        ("embed", "search"),
        True,
        300,
    )
    assert chat.upstream_model is None
    assert [(key.name, key.admin) for key in config.keys] == [("mine", False), ("theirs", True)]
    assert (config.settings.port, config.settings.task) == (8001, "query")


def test_flags_override_the_environment_and_the_environment_overrides_the_file(write):
    file = write("server.toml", '[server]\nport = 1\ntask = "file"\nstrict = true\n')
    environment = {"EMBERGEM_PORT": "2", "EMBERGEM_TASK": "environment", "EMBERGEM_CORS": "https://a,https://b"}
    settings = read_config(file, environment, {"port": 3, "task": None}).settings
    assert (settings.port, settings.task, settings.strict) == (3, "environment", True)
    assert settings.cors == ("https://a", "https://b")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.toml",
            "[server]\nprot = 1\n",
            r"a.toml: server.prot is unknown. Did you mean 'port'\? Known settings: host, port",
        ),
        ("a.toml", "[server]\nport = 'x'\n", r"a.toml: server.port is 'x'. It must be a whole number from 0 to 65535"),
        ("a.toml", "[server]\nport = 70000\n", r"a.toml: server.port is 70000. .*65535"),
        ("a.toml", "[sever]\n", r"a.toml: 'sever' is unknown"),
        ("a.toml", "[server\n", r"a.toml is not valid TOML"),
        ("a.toml", "[[keys]]\nname = 'a'\n", r"a.toml: keys\[0\].sha256 is missing"),
        ("a.toml", "[[keys]]\nname = 'a b'\nsha256 = '" + "a" * 64 + "'", r"a.toml: keys\[0\].name is 'a b'"),
        ("a.toml", ("[[keys]]\nname = 'a'\nsha256 = '" + "a" * 64 + "'\n") * 2, r"Two API keys are called 'a'"),
        ("a.toml", "[models.x]\nupstream = 'localhost:1'\n", r"a.toml: x.upstream is 'localhost:1': .* is not an http"),
        ("a.json", "{", r"a.json is not valid JSON"),
        ("a.json", "{}", r"a.json: it must be an object such as"),
        ("a.json", {"x": {"Plain": {"model_id": "m"}}}, r'a.json: x.Plain: .*add "upstream"'),
        ("a.json", {"x": {"Embedding": {}}}, r"a.json: x.Embedding.model_id is missing"),
        ("a.json", {"x": {"Embedding": {"model_id": "m", "isq": 4}}}, r"a.json: x.Embedding.isq is unknown"),
        (
            "a.json",
            {"x": {"Embedding": {"model_id": "m", "from_uqff": "f"}}},
            r"x.Embedding.from_uqff: it has no meaning",
        ),
        ("a.json", {"x": {"Embedding": {"model_id": "m"}, "Plain": {}}}, r"Embedding and Plain at once"),
        ("a.json", {"x": 5}, r"a.json: x: it must be an object"),
        ("a.json", {"default": {"Embedding": {"model_id": "m"}}}, r"the name 'default' is already used for"),
        ("a.json", {"x": {"Embedding": {"model_id": "m"}, "alias": "y"}, "y": {"Embedding": {"model_id": "m"}}}, "'y'"),
    ],
)
def test_errors_name_the_file_and_the_setting(write, name, content, words):
    with pytest.raises(InvalidConfig, match=words):
        read_config(write(name, content), {}, {})


@pytest.mark.parametrize("content", ["", "keys = []\n"])
def test_a_key_file_without_keys_is_refused(write, content):
    file = write("keys.toml", content)
    for place, flags in ((None, {"keys": str(file)}), (write("server.toml", '[server]\nkeys = "keys.toml"\n'), {})):
        with pytest.raises(InvalidConfig, match=r"keys\.toml has no API key.* `embergem keys new"):
            read_config(place, {}, flags)
    with pytest.raises(InvalidConfig, match=r"empty\.toml has no API key"):
        read_config(write("empty.toml", "keys = []\n"), {}, {})
    assert read_config(write("open.toml", "[server]\n"), {}, {}).keys == ()


def test_errors_name_the_variable_and_the_flag(tmp_path):
    with pytest.raises(InvalidConfig, match="EMBERGEM_PORT is 'x'"):
        read_config(None, {"EMBERGEM_PORT": "x"}, {})
    with pytest.raises(InvalidConfig, match="--access-log is 'loud'"):
        read_config(None, {}, {"access_log": "loud"})
    with pytest.raises(InvalidConfig, match=r"none\.toml cannot be read: No such file"):
        read_config(tmp_path / "none.toml", {}, {})
