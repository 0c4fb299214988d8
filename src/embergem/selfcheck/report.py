"""The report of a self-check: findings, made from the texts and bounds in probes.json.

Separate because `embergem doctor` and the engine read reports without importing the probes.
"""

import pkgutil
from typing import Literal

import msgspec

Status = Literal["ok", "warn", "error"]


class Outcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a probe can find. The texts have places for values in braces."""

    status: Status
    message: str
    suggestion: str = ""


class Probes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts, bounds and outcomes of the probes: the contents of probes.json, which the Rust SDK reads too.

    Attributes:
        short_texts: Texts of every check. Their vectors are compared with those of the first check.
        whole_texts: Texts of the whole check, of many kinds.
        special_token_texts: Texts whose first and last tokens are compared.
        prompted_text: Text that is embedded for each task.
        repeated_text: Text that is repeated until it is longer than the limit.
        default_reach: Tokens that the long row assumes for the window of a model without a window.
        tokens_past_window: Tokens of the long row that no window reaches from its first token.
        norm_tolerance: Largest difference of a length from 1.
        equal_cosine: Two vectors with a larger cosine are equal.
        exact_cosine: A dtype with a smaller cosine to float32 gets a warning.
        broken_cosine: A dtype with a smaller cosine to float32 is not usable.
        outcomes: What each probe can find: probe -> outcome -> status, message, suggestion.
    """

    short_texts: tuple[str, ...]
    whole_texts: tuple[str, ...]
    special_token_texts: tuple[str, ...]
    prompted_text: str
    repeated_text: str
    default_reach: int
    tokens_past_window: int
    norm_tolerance: float
    equal_cosine: float
    exact_cosine: float
    broken_cosine: float
    outcomes: dict[str, dict[str, Outcome]]


PROBES = msgspec.json.decode(pkgutil.get_data("embergem.selfcheck", "probes.json") or b"", type=Probes)


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one probe found: `message` states it, `suggestion` gives the usual cause and what to do."""

    name: str
    status: Status
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f". {self.suggestion}" if self.suggestion else "")


def finding(probe: str, outcome: str, **values: object) -> Finding:
    """Return the finding of a probe with one of the outcomes in probes.json; `values` fill the places in its text.

    >>> str(finding("limit", "same", limit=256))
    'limit: inputs have up to 256 tokens'
    """
    found = PROBES.outcomes[probe][outcome]
    suggestion = found.suggestion.format(**values) if found.suggestion else None
    return Finding(probe, found.status, found.message.format(**values), suggestion)


class Report(msgspec.Struct, frozen=True):
    """All findings about a model. `whole` says that every probe ran, not only the short ones of later starts."""

    findings: tuple[Finding, ...] = ()
    whole: bool = False

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Findings with which a model must not answer."""
        return tuple(finding for finding in self.findings if finding.status == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that a person should look at."""
        return tuple(finding for finding in self.findings if finding.status == "warn")
