"""Examines this machine and the models on it, and gives advice: `embergem doctor`."""

from embergem.diagnostics.doctor.checks import examine
from embergem.diagnostics.doctor.report import Report

__all__ = ["Report", "examine"]
