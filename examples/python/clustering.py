"""Group texts, name the groups and plot them: python examples/python/clustering.py [MODEL] [PICTURE.png].

Needs scikit-learn and matplotlib: pip install scikit-learn matplotlib
"""

import re
import sys
from collections import Counter

import matplotlib as mpl
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from embergem import Embedder

mpl.use("Agg")
from matplotlib import pyplot as plt

TEXTS = [
    "The striker scored a late goal.", "The goal was scored from a corner.", "A late goal won the match.",
    "The referee ended the match early.", "Simmer the soup on low heat.", "Add salt to the soup.",
    "The soup needs an onion and salt.", "Fry the onion before the soup.", "The train to Oslo is late.",
    "A night train crosses the border.", "Change the train at the border.", "Tickets for the night train sold out.",
]  # fmt: skip
GROUPS = 3
PICTURE = sys.argv[2] if len(sys.argv) > 2 else "clusters.png"


def label(texts: list[str]) -> str:
    """Return the words that are more frequent in a group than in the other groups."""
    words = Counter(word for text in texts for word in set(re.findall(r"[a-z]{3,}", text.lower())))
    everywhere = Counter(word for text in TEXTS for word in set(re.findall(r"[a-z]{3,}", text.lower())))
    ranked = sorted(words, key=lambda word: (-(words[word] ** 2) / everywhere[word], word))
    return ", ".join(ranked[:2])


with Embedder(*sys.argv[1:2]) as embedder:
    vectors = embedder.embed(TEXTS, task="clustering" if "clustering" in embedder.tasks else None)
groups = KMeans(GROUPS, n_init=10, random_state=0).fit_predict(vectors)
members = [[text for text, group in zip(TEXTS, groups, strict=True) if group == number] for number in range(GROUPS)]
names = [label(texts) for texts in members]
for name, texts in zip(names, members, strict=True):
    print(f"{name}: {len(texts)} texts")
points = PCA(2, random_state=0).fit_transform(vectors)
for number, name in enumerate(names):
    plt.scatter(*points[groups == number].T, label=name)
plt.legend()
plt.title("Texts by meaning")
plt.savefig(PICTURE, dpi=120)
print(f"wrote {PICTURE}")
