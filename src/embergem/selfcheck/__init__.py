"""The self-check: probes that a model must pass before it answers requests."""

from embergem.selfcheck.check import check
from embergem.selfcheck.context import CheckContext, base_model
from embergem.selfcheck.report import Finding, Report

__all__ = ["CheckContext", "Finding", "Report", "base_model", "check"]
