"""A look at the machine and the models on it, with advice."""

from embergem.diagnostics.doctor.examine import examine
from embergem.diagnostics.doctor.report import Report

__all__ = ["Report", "examine"]
