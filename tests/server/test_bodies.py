"""What bodies may hold, what is built of them, and where: never more than was asked, never in the others' way."""

import asyncio
import json
import threading
import time
import tracemalloc
from concurrent.futures import Future

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embergem.engine import Request
from embergem.errors import Cancelled, InvalidRequest
from embergem.protocol import EmbeddingsRequest
from embergem.server.decode import MOST_FIELDS, parse, texts_or_ids
from embergem.server.wait import result_of, submit


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{" + b",".join(b'"f%d":0' % number for number in range(MOST_FIELDS + 1)) + b"}", "more than 100 fields"),
        (b'{"input": "a"' + b',"f":0' * 1_000_000 + b"}", "more than 100 fields"),
        (b'{"input": [' + b"[]," * 1_000_000 + b"[]]}", "more than 8 entries"),
        (b'{"input": [' + b'"ab",' * 1_000_000 + b'"a"]}', "more than 8 entries"),
        (b'{"input": [' + b'"a",' * 8 + b"[]," * 1_000_000 + b'"a"]}', r"input\[8\]: Expected `str`, got `array`"),
        (b'{"input": ["a",' + b"[]," * 1_000_000 + b'"a"]}', r"input\[1\]: Expected `str`, got `array`"),
        (b'{"input": [' + b"500," * 5_000_000 + b"5]}", "more than 4194304 token ids"),
    ],
    ids=["fields", "large fields", "rows", "texts", "lists among texts", "lists as texts", "ids"],
)
def test_nothing_is_built_before_it_is_known_how_much(content, words):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=words):
            texts_or_ids(parse(content, EmbeddingsRequest)[0].input, 8)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content) + 100_000
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*EmbeddingsRequest.__struct_fields__, "dimension", "inputs", "größe"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | st.dictionaries(FIELDS, JSON, max_size=6).map(lambda body: json.dumps(body).encode()))
def test_any_body_is_read_or_refused(body):
    try:
        request, _ = parse(body, EmbeddingsRequest)
        texts, ids = texts_or_ids(request.input, 9)
    except InvalidRequest:
        return
    assert (texts is None) != (ids is None)
    assert all(isinstance(text, str) for text in texts or [])
    assert all(type(number) is int for row in ids or [] for number in row)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_body_is_answered_and_never_with_a_fault_of_ours(http, body):
    content = json.dumps({"input": "a", **body}).encode()
    found = http.post("/v1/embeddings", content=content)
    assert found.status_code in (200, 400, 404), (body, found.text)


def test_nothing_is_computed_for_who_has_gone(registry):
    """A client that hangs up while it waits: its work is cancelled."""

    class Gone:
        async def receive(self):
            return {"type": "http.disconnect"}

    work = Future()
    with pytest.raises(Cancelled):
        asyncio.run(result_of(Gone(), work, time.monotonic() + 60))
    assert work.cancelled()


@pytest.mark.parametrize("titles", [None, ["T", None], ["T" * 4096, None]])
def test_what_takes_long_to_tokenize_is_tokenized_beside_the_event_loop(titles):
    class Engine:
        def submit(self, request):
            return threading.current_thread()

    request = Request(texts=["a", "b"], titles=titles)
    beside = asyncio.run(submit(Engine(), request)) is not threading.current_thread()
    assert beside == (titles is not None and titles[0] != "T")
