"""What a model proves about itself before it answers."""

from embergem.selfcheck.check import check
from embergem.selfcheck.report import Finding, Report
from embergem.selfcheck.subject import Subject, kin

__all__ = ["Finding", "Report", "Subject", "check", "kin"]
