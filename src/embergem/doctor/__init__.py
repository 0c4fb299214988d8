"""A look at the machine and the models on it, with advice."""

from embergem.doctor.examine import examine
from embergem.doctor.report import Report

__all__ = ["Report", "examine"]
