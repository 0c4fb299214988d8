"""What a model proves about itself before it answers."""

from embergem.selfcheck.check import check
from embergem.selfcheck.context import CheckContext, kin
from embergem.selfcheck.report import Finding, Report

__all__ = ["CheckContext", "Finding", "Report", "check", "kin"]
