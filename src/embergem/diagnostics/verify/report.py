"""What a comparison found."""

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One probe: tokens here and there (where the other side counts), cosine, and the length of the other's vector.

    `refused` is the other side's reason for giving no vector.
    """

    probe: str
    tokens: int
    tokens_there: int | None
    cosine: float | None
    length: float | None
    refused: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """Whether both sides agree, and if not, why.

    `cause` is one of dense, window, prompt, truncation, normalisation, pooling, attention, tokenizer, dtype, batch,
    dimensions, unknown, or two of them; `None` where both sides agree. `explanation` says it in words, `notes` what
    else was noticed.
    """

    model: str
    against: str
    agrees: bool
    cause: str | None
    explanation: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
