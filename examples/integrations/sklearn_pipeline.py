"""Classify with scikit-learn: python examples/integrations/sklearn_pipeline.py [MODEL]."""

import sys

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from embergem.integrations.sklearn import EmbergemVectorizer

texts = [f"the {fruit} is sweet" for fruit in ("apple", "pear", "plum", "fig", "grape", "melon")]
texts += [f"{metal} conducts heat" for metal in ("iron", "copper", "gold", "tin", "silver", "zinc")]
pipeline = make_pipeline(EmbergemVectorizer(*sys.argv[1:]), LogisticRegression())
print("accuracy:", cross_val_score(pipeline, texts, [0] * 6 + [1] * 6, cv=3).mean())
