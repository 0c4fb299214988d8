"""Holds this engine against another one, and names why they differ."""

from embergem.diagnostics.verify.diagnose import verify
from embergem.diagnostics.verify.report import Verdict

__all__ = ["Verdict", "verify"]
