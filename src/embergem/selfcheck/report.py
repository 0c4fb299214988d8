"""The report of a self-check: its findings and their status.

Separate because `embergem doctor` and the engine read reports without importing the probes.
"""

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "error"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one probe found: `message` says what is, `suggestion` the usual cause and the way out."""

    name: str
    status: Status
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f". {self.suggestion}" if self.suggestion else "")


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
