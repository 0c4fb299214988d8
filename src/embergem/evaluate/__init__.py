"""Measures a model on labelled data, and what smaller dimensions, int8 and binary vectors lose: `embergem eval`.

Needs the extra `eval`: `pip install 'embergem[eval]'`.
"""

from embergem.evaluate.evaluation import evaluate
from embergem.evaluate.labelled import Labelled, Pairs, Retrieval
from embergem.evaluate.measures import Bootstrap, Estimate
from embergem.evaluate.plot import draw
from embergem.evaluate.read import read_labelled
from embergem.evaluate.report import Form, Report
from embergem.evaluate.storage import STORAGE, Storage

__all__ = [
    "STORAGE",
    "Bootstrap",
    "Estimate",
    "Form",
    "Labelled",
    "Pairs",
    "Report",
    "Retrieval",
    "Storage",
    "draw",
    "evaluate",
    "read_labelled",
]
