"""Log lines: each record is one line, whatever a client sends, and no character changes how a terminal shows it."""

import io
import json
import logging
import sys
import unicodedata

import msgspec
import pytest
from serving import QUIET

from embergem.server.access_log import AccessRecord
from embergem.server.log_format import LineFormatter, escape_controls

EVERY = "".join(map(chr, range(sys.maxunicode + 1)))


CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def controls(text):
    """Return the characters that a log line must not have."""
    return [] if text.isprintable() else [one for one in text if unicodedata.category(one) in CATEGORIES]


def test_every_code_point_is_escaped_or_unchanged():
    """Controls of all kinds are escaped as JSON escapes them; every other character is kept."""
    special = "".join(controls(EVERY))
    assert {"\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\u061c", "\U000e0041", "\ud800"} <= {*special}
    escaped = escape_controls(special)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert json.loads(f'"{escaped}"') == json.loads(json.dumps(special))
    others = EVERY.translate(dict.fromkeys(map(ord, special)))
    assert escape_controls(others) == others
    assert escape_controls("\x1f" + others) == "\\u001f" + others


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_field_of_an_access_line_has_controls(form):
    some = "".join(controls(EVERY[:0x2FFF])) + "\ue000\ufeff\U000e0041"
    names = [name for name in AccessRecord.__dataclass_fields__ if name not in ("texts", "status", "size", "seconds")]
    settings = msgspec.structs.replace(QUIET, access_log=form, log_inputs=True)
    record = AccessRecord(**dict.fromkeys(names, f"a{some}b"), texts=[some, "\x85"])
    line = record.line(settings)
    assert controls(line) == []
    assert len(line.splitlines()) == 1
    if form == "json":
        read = json.loads(line)
        assert (read["path"], read["texts"]) == (f"a{some}b", [some, "\x85"])
    else:
        assert f"path={json.dumps('größe', ensure_ascii=False)[1:-1]} " in AccessRecord("id", path="größe").line(
            settings
        )


def test_an_access_line_has_the_fields_that_are_known():
    settings = msgspec.structs.replace(QUIET, access_log="json")
    record = AccessRecord("id", "client", "GET", "/health", status=200, size=20, seconds=0.1234567, model="m")
    line = json.loads(record.line(settings))
    del line["time"]
    assert line == {
        "id": "id", "client": "client", "method": "GET", "path": "/health", "status": 200, "ms": 123.46, "bytes": 20,
        "model": "m",
    }  # fmt: skip


def test_the_servers_own_log_escapes_messages_and_tracebacks():
    stream = io.StringIO()
    logger = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.error("GET %s: failed", "/a\nERROR: forged\x9b31m\u2028")
    try:
        raise ValueError("a\x1b]0;title\x07\nERROR: forged\u202e")
    except ValueError:
        logger.exception("It failed.")
    written = stream.getvalue()
    assert controls(written.replace("\n", "")) == []
    lines = written.splitlines()
    assert lines[0] == r"ERROR: GET /a\nERROR: forged\u009b31m\u2028: failed"
    assert lines[1:3] == ["ERROR: It failed.", "Traceback (most recent call last):"]
