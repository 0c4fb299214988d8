"""Requests as real clients write them: nulls, whole floats, byte order marks, compression, slashes and misspelt fields.

What cannot be read is refused with the reason: lone surrogates, other compressions, bodies that expand too much.
"""

import asyncio
import gzip
import json
import re
import tracemalloc
import zlib
from types import SimpleNamespace

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import QUIET, running
from starlette.datastructures import Headers

from embergem import protocol
from embergem.config import Key
from embergem.errors import InvalidRequest, InvalidText
from embergem.protocol import EmbeddingsRequest, Forwarded, TokenizeRequest
from embergem.server.api_keys import hash_key
from embergem.server.app import OPERATIONS
from embergem.server.body import BodyReader, BodyTooLarge
from embergem.server.bounded_json import decode_fields
from embergem.server.decode import decode_body, decode_request
from embergem.server.inflate import STEP, Inflater
from embergem.suggestions import misspelt

TEXT = {"input": "a text", "model": "default"}
ASKED = json.dumps(TEXT).encode()


def raw_deflate(content):
    return zlib.compress(content, wbits=-15)


@pytest.fixture(scope="module")
def plain(url):
    """The answer to `TEXT`, sent as it is."""
    return httpx.post(f"{url}/v1/embeddings", content=ASKED, timeout=60).json()


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (json.dumps({**TEXT, "model": None}).encode(), {}),
        (json.dumps(dict.fromkeys(EmbeddingsRequest.__struct_fields__) | {"input": "a text"}).encode(), {}),
        (json.dumps({**TEXT, "dimensions": 96.0}).encode(), {}),
        (b"\xef\xbb\xbf" + ASKED, {}),
        (ASKED, {"content-type": "Application/JSON; Charset=UTF-8"}),
        (ASKED, {"content-encoding": "identity"}),
        (gzip.compress(ASKED, mtime=0), {"content-encoding": "gzip"}),
        (gzip.compress(b"\xef\xbb\xbf" + ASKED, mtime=0), {"content-encoding": "X-GZip"}),
        (gzip.compress(ASKED[:9], mtime=0) + gzip.compress(ASKED[9:], mtime=0), {"content-encoding": "gzip"}),
        (zlib.compress(ASKED), {"content-encoding": "deflate"}),
        (raw_deflate(ASKED), {"content-encoding": "Deflate"}),
    ],
)
def test_other_spellings_of_a_request_have_the_same_answer(url, plain, content, headers):
    found = httpx.post(f"{url}/v1/embeddings", content=content, headers=headers, timeout=60)
    assert (found.status_code, found.json()) == (200, plain)


@pytest.mark.parametrize("value", [96.5, "96", True, 1e300, [96]])
def test_other_values_of_dimensions_are_refused(http, value):
    found = http.post("/v1/embeddings", json={**TEXT, "dimensions": value})
    assert (found.status_code, found.json()["error"]["param"]) == (400, "dimensions"), found.text


def test_an_admin_request_may_write_its_media_type_in_any_case(http):
    for media_type in ("Application/JSON", "application/json;charset=utf-8", "APPLICATION/JSON ; a=b"):
        headers = {"content-type": media_type}
        assert http.post("/v1/models/status", content=b'{"model_id": "default"}', headers=headers).status_code == 200
    headers = {"content-type": "text/plain"}
    assert http.post("/v1/models/status", content=b'{"model_id": "default"}', headers=headers).status_code == 415


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "x" * 100])
def test_other_compressions_are_refused_with_those_that_are_read(http, encoding):
    found = http.post("/v1/embeddings", content=ASKED, headers={"content-encoding": encoding})
    assert (found.status_code, found.json()["error"]["code"]) == (415, "unsupported_encoding")
    assert found.headers["accept-encoding"] == "gzip, deflate"
    assert "gzip, deflate" in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (ASKED, "gzip", "not compressed as"),
        (gzip.compress(ASKED, mtime=0)[:-9], "gzip", "end of the compressed body is missing"),
        (gzip.compress(ASKED, mtime=0) + b"more", "gzip", "not compressed as"),
        (zlib.compress(ASKED) + b"more", "deflate", "goes on after its end"),
        (zlib.compress(ASKED)[:-1], "deflate", "end of the compressed body is missing"),
        (b"", "deflate", "end of the compressed body is missing"),
        (b"", "gzip", "end of the compressed body is missing"),
        (b"\xff" * 50, "deflate", "not compressed as"),
    ],
)
def test_a_damaged_compressed_body_is_refused(http, content, encoding, words):
    found = http.post("/v1/embeddings", content=content, headers={"content-encoding": encoding})
    assert (found.status_code, words in found.json()["error"]["message"]) == (400, True), found.text


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"", b"a", b"ab" * 3000, b"\0" * (STEP * 2 + 1), bytes(range(256)) * 30]), max_size=4),
    st.sampled_from(["gzip", "deflate", "raw"]),
    st.integers(1, 5000),
)
def test_a_body_decompresses_to_what_was_compressed_however_it_arrives(pieces, form, part):
    content = b"".join(pieces)
    if form == "gzip":
        compressed = b"".join(map(gzip.compress, pieces or [b""]))
    else:
        compressed = zlib.compress(content) if form == "deflate" else raw_deflate(content)
    inflater = Inflater("gzip" if form == "gzip" else "deflate")
    found = []
    for start in range(0, len(compressed), part):
        found += inflater.inflate(compressed[start : start + part], last=start + part >= len(compressed))
    assert b"".join(found) == content
    assert all(0 < len(one) <= STEP for one in found)


def read(content, limit, encoding, part=65536):
    """Read a body in parts as the server does; returns the content and the peak of the memory that it took."""
    starts = iter(range(0, len(content), part))

    async def receive():
        start = next(starts)
        more = start + part < len(content)
        return {"type": "http.request", "body": content[start : start + part], "more_body": more}

    http = SimpleNamespace(headers=Headers({"content-encoding": encoding}), receive=receive)
    context = SimpleNamespace(http=http, state=SimpleNamespace(settings=SimpleNamespace(max_body=limit)), body_bytes=0)
    tracemalloc.start()
    try:
        return asyncio.run(BodyReader().read(context)), tracemalloc.get_traced_memory()[1]
    except BodyTooLarge:
        return None, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_within_the_memory_of_one_body(encoding):
    limit = 2**20
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    content, _ = read(compress(b" " * limit), limit, encoding)
    assert content == b" " * limit
    bomb = compress(b" " * 64 * limit)
    assert len(bomb) < limit / 10
    content, peak = read(bomb, limit, encoding)
    assert content is None
    assert peak < limit + 4 * STEP
    empty_blocks = b"\x78\x9c" + b"\0\0\0\xff\xff" * (limit // 5 + 1)  # compressed, yet larger than its content
    assert read(empty_blocks, limit, "deflate")[0] is None


def test_a_bomb_is_answered_413(registry):
    with running(registry, msgspec.structs.replace(QUIET, max_body=100_000)) as url:
        bomb = gzip.compress(b'{"input": "' + b"a" * 1_000_000 + b'"}', mtime=0)
        found = httpx.post(f"{url}/v1/embeddings", content=bomb, headers={"content-encoding": "gzip"}, timeout=60)
        assert (found.status_code, found.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("keys", [(), (Key(name="a", sha256=hash_key("a")),)], ids=["open", "with keys"])
def test_further_slashes_are_never_redirected(registry, keys):
    with running(registry, QUIET, keys) as url, httpx.Client(base_url=url, headers={"host": "evil.example"}) as client:
        for one in OPERATIONS:
            path = one.path.replace("{name:path}", "default")
            for variant in (f"{path}/", f"{path}//", f"/{path}", path.replace("/", "//"), f"//evil.example{path}"):
                found = client.request(one.method, httpx.URL(url).copy_with(raw_path=variant.encode()))
                expected = {404, 405} | ({401} if keys and one.access != "open" else set())
                assert found.status_code in expected or path == "/", (variant, found.status_code)
                assert "location" not in found.headers
                assert "evil.example" not in found.text.replace(variant, "")
    assert not any(200 <= status < 400 for status in expected)


def test_an_unknown_path_with_further_slashes_names_the_path(http):
    message = http.post("/v1//embeddings/").json()["error"]["message"]
    assert "Did you mean /v1/embeddings?" in message


@pytest.mark.parametrize(
    ("content", "param", "index", "words"),
    [
        (rb'{"input": "a\ud800"}', "input", 0, r"Input 0 has the lone surrogate \\ud800, so"),
        (rb'{"input": ["a", "b", "c\udc00d", "e"]}', "input", 2, r"Input 2 has the lone surrogate \\udc00, so"),
        (rb'{"model": "m", "input": ["\ud83d\ude00", "\ud83d\ud83d\ude00"]}', "input", 1, r"surrogate \\ud83d"),
        (rb'{"input": ["a", "\\\\\\ud800", "\uDFFF"]}', "input", 2, r"surrogate \\uDFFF"),
        (rb'{"input": ["\\ud800\udc00"]}', "input", 0, r"surrogate \\udc00"),
        (rb'{"input": ["a", "b"], "title": [null, "\ud800"]}', "title", 1, r"Input 1 .* \\ud800 in its title"),
        (rb'{"input": "a", "prompt": "\ud800"}', "prompt", None, r"The field 'prompt' has the lone surrogate"),
        (b'{"%s": "\\ud800"}' % (b"f" * 99), "f" * 64, None, "The field 'f{64}' has the lone surrogate"),
        (rb'{"input": "a", "meta": {"b": ["\ud800"]}}', None, None, r"The body has the lone surrogate \\ud800"),
        (rb'{"in\ud800put": "a"}', None, None, r"The body has the lone surrogate"),
    ],
)
@pytest.mark.parametrize("padding", [0, 100_000])
def test_a_lone_surrogate_names_its_input(content, param, index, words, padding):
    padded = content[:-1] + b" " * padding + b"}"
    for kind in (EmbeddingsRequest, TokenizeRequest):
        with pytest.raises(InvalidText, match=words) as refused:
            decode_request(padded, kind, QUIET)
        assert (refused.value.param, refused.value.input_index) == (param, index)
        assert "toWellFormed()" in refused.value.message
        assert "'replace'" in refused.value.message


def test_a_lone_surrogate_is_answered_with_its_index(http):
    found = http.post("/v1/embeddings", content=rb'{"input": ["a", "b\ud800"]}')
    error = found.json()["error"]
    assert (found.status_code, error["code"], error["input_index"]) == (400, "invalid_text", 1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(categories=["Cs"]) | st.sampled_from('a\\"u\U0001f600'), max_size=5), min_size=1))
def test_exactly_the_texts_with_lone_surrogates_are_refused(texts):
    content = json.dumps({"input": texts}).encode()
    joined = [json.loads(json.dumps(text)) for text in texts]  # a high and a low surrogate in a row are one character
    wrong = [index for index, text in enumerate(joined) if re.search("[\ud800-\udfff]", text)]
    if wrong:
        with pytest.raises(InvalidText) as refused:
            decode_fields(content, 99)
        assert refused.value.input_index == wrong[0]
    else:
        assert json.loads(bytes(decode_fields(content, 99)["input"])) == joined


@pytest.mark.parametrize("field", ["model", "encoding_format", "user"])
def test_a_field_that_is_not_utf_8_is_refused(field):
    """The first look at the fields skips over strings and does not decode them."""
    content = b'{"input": "a", "%s": "\xff"}' % field.encode()
    with pytest.raises(InvalidRequest, match="The body is not valid JSON: 'utf-8' codec can't decode byte 0xff"):
        decode_body(content, EmbeddingsRequest)


def test_the_input_with_a_lone_surrogate_is_found_without_building_all_inputs():
    content = b'{"input": [' + b'"",' * 300_000 + rb'"\ud800"]}'
    with pytest.raises(InvalidText):
        decode_fields(content, 2048)  # makes the type of a list of 2048 entries, which is large and is kept
    tracemalloc.start()
    try:
        with pytest.raises(InvalidText, match="The field 'input' has the lone surrogate"):
            decode_fields(content, 2048)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(content)
    finally:
        tracemalloc.stop()


def misspellings(name):
    """Yield the usual mistakes in a field's name."""
    words = name.split("_")
    yield name[:-1] if name.endswith("s") else f"{name}s"
    yield name + name[-1]
    yield name.upper()
    yield name.replace("_", "-").title()
    yield words[0] + "".join(word.title() for word in words[1:])
    yield from (f"{prefix}_{name}" for prefix in ("output", "my"))
    yield f"outputOf{name.title()}"
    if len(name) > 4:
        yield from (name[:place] + name[place + 1 :] for place in range(1, len(name)))
        yield from (name[:place] + "x" + name[place + 1 :] for place in range(1, len(name)))
    for place in range(1, len(name) - 1):
        yield name[:place] + name[place + 1] + name[place] + name[place + 2 :]


BODIES = {one.body for one in OPERATIONS if one.body not in (None, Forwarded) and not one.form}
"""JSON bodies whose fields are read: forwarded fields pass unread."""


@pytest.mark.parametrize("kind", sorted(BODIES, key=lambda kind: kind.__name__))
def test_a_misspelt_field_of_any_route_is_refused_with_the_right_one(kind):
    for name in kind.__struct_fields__:
        for wrong in set(misspellings(name)) - set(kind.__struct_fields__):
            with pytest.raises(InvalidRequest, match=rf"is unknown\. Did you mean '{name}'\?") as refused:
                decode_body(json.dumps({wrong: 1, **dict.fromkeys(kind.__struct_fields__)}).encode(), kind)
            assert refused.value.param == wrong


STRUCTS = [one for one in vars(protocol).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]


@pytest.mark.parametrize("kind", STRUCTS)
def test_the_misspelt_field_of_any_struct_is_recognised(kind):
    fields = kind.__struct_fields__
    for name in fields:
        for wrong in set(misspellings(name)) - set(fields):
            found = misspelt(wrong, fields)
            # A mistake may lead to another field as well, such as `task` beside `tasks`.
            assert found is not None, wrong
            assert found.removesuffix("s") == name.removesuffix("s") or wrong in set(misspellings(found)), wrong


@pytest.mark.parametrize(
    "name",
    ["priority", "input_type", "normalize", "late_chunking", "prompt_name", "embedding_types", "extra_body", "timeout"],
)
def test_fields_that_other_servers_know_are_ignored(name):
    assert decode_body(json.dumps({"input": "a", name: 1}).encode(), EmbeddingsRequest)[1] == [name]


@pytest.mark.parametrize("name", ["output_dimension", "output_dimensions", "outputDimensionality", "dim", "n_dims"])
def test_other_names_of_dimensions_are_refused(http, name):
    found = http.post("/v1/embeddings", json={**TEXT, name: 32}).json()["error"]
    assert found["param"] == name
    assert "Did you mean 'dimensions'?" in found["message"]
