"""What a model proves about itself before it answers."""

from embergem.selfcheck.check import check
from embergem.selfcheck.context import Subject, kin
from embergem.selfcheck.report import Finding, Report

__all__ = ["Finding", "Report", "Subject", "check", "kin"]
