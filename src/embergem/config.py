"""Validated settings of a server."""

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server behaves.

    Attributes:
        strict: Refuse fields that are not known instead of ignoring them.
        task: Task of texts that come without one, for the models that have it.
        max_body: Bytes of a body; 50 MiB is about twelve million tokens of plain text.
        max_inputs: Inputs of one request; OpenAI takes 2,048.
    """

    strict: bool = False
    task: str | None = None
    max_body: int = 50 * 2**20
    max_inputs: int = 2048
