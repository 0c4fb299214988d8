"""Classify with a linear head on the vectors: python examples/python/classification.py [MODEL].

The head is a least-squares fit with a small ridge term, in NumPy. examples/integrations/sklearn_pipeline.py uses the
classifier of scikit-learn.
"""

import sys

import numpy as np

from embergem import Embedder

TRAIN = {
    "sport": ["The striker scored twice.", "She won the marathon in record time.", "The match went to penalties."],
    "food": ["Fry the onions until golden.", "The soup needs more salt.", "This bakery sells rye bread."],
    "travel": ["The train to Oslo leaves at noon.", "We booked a hotel by the sea.", "Her flight was delayed."],
}
TEST = {
    "sport": ["The goalkeeper saved the shot.", "He trains for the Olympic swimming final."],
    "food": ["Knead the dough for ten minutes.", "I ordered pasta with tomato sauce."],
    "travel": ["Our ferry crosses the strait at night.", "You need a visa at the border."],
}
LABELS = list(TRAIN)
RIDGE = 0.1


def flat(examples: dict[str, list[str]]) -> tuple[list[str], list[int]]:
    """Return the texts and the numbers of their labels."""
    pairs = [(text, LABELS.index(label)) for label, texts in examples.items() for text in texts]
    return [text for text, _ in pairs], [label for _, label in pairs]


with Embedder(*sys.argv[1:]) as embedder:
    task = "classification" if "classification" in embedder.tasks else None
    texts, labels = flat(TRAIN)
    features = embedder.embed(texts, task=task)
    centre = features.mean(axis=0)
    features = features - centre
    gram = features.T @ features + RIDGE * np.eye(features.shape[1], dtype=np.float32)
    head = np.linalg.solve(gram, features.T @ np.eye(len(LABELS), dtype=np.float32)[labels])
    unseen, truth = flat(TEST)
    found = ((embedder.embed(unseen, task=task) - centre) @ head).argmax(axis=1)
    for text, label in zip(unseen, found, strict=True):
        print(f"{LABELS[label]:8} {text}")
    print(f"{np.mean(found == truth):.0%} right")
