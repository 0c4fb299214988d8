"""Compares this engine with another one and names the cause of a difference: `embergem verify`."""

from embergem.diagnostics.verify.compare import Verdict, verify

__all__ = ["Verdict", "verify"]
