"""Holds this engine against another one, and names why they differ."""

from embergem.verify.diagnose import verify
from embergem.verify.report import Verdict

__all__ = ["Verdict", "verify"]
