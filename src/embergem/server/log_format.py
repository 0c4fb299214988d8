r"""Format of the server's log lines: one record is one line, and no text of a client can change how a line is shown.

Separate because the access log and the server's own log share it.
"""

import logging
import unicodedata
from types import TracebackType

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape_controls(text: str, keep: str = "") -> str:
    r"""Escape the characters that may end a line, change its direction or control a terminal, as JSON escapes them.

    These are the characters of the Unicode categories C* (controls, bidirectional and other format characters,
    surrogates, private and unassigned ones), Zl and Zp, except those in `keep`.

    >>> escape_controls("größe 東京 \x9b31m \u202e \U000e0041")
    'größe 東京 \\u009b31m \\u202e \\udb40\\udc41'
    """
    return text if text.isprintable() else "".join(one if one in keep else _escape(one) for one in text)


def _escape(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] != "C" and category not in ("Zl", "Zp"):
        return character
    code = ord(character)
    if code > 0xFFFF:  # JSON writes it as a surrogate pair
        return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 | code & 0x3FF:04x}"
    return _SHORT.get(character, f"\\u{code:04x}")


class LineFormatter(logging.Formatter):
    """Formats each record as one line, and the lines of a traceback after it, all with controls escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line of a record."""
        return escape_controls(super().formatMessage(record))

    def formatException(  # noqa: N802 - the name is logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return the lines of a traceback."""
        return escape_controls(super().formatException(ei), keep="\n")
