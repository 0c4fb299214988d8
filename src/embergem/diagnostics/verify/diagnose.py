"""Compares both sides, and where they differ looks for the fault that reproduces the other's vectors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embergem.diagnostics.verify.other import Answer, Other
from embergem.diagnostics.verify.ours import Ours
from embergem.diagnostics.verify.probes import Probe
from embergem.diagnostics.verify.report import Row, Verdict
from embergem.diagnostics.verify.variants import Computed, Read, computed, read
from embergem.engine.calibration import cosines

Floats = NDArray[np.float64]

SAME = 0.99999
"""Least cosine of two computations of the same thing in float32."""
EXACT = 1e-5
"""Most that a component may differ."""
NEAR = 0.99
"""Least cosine of the same thing in a lower precision."""
GAIN = 0.2
"""A fault explains the rest in lower precision when it leaves at most this share of the difference."""


@dataclass(frozen=True, slots=True)
class Found:
    """A fault, and how near it comes to the other side: the least cosine over all probes."""

    cause: str
    words: str
    cosine: float


def verify(ours: Ours, other: Other, probes: Sequence[Probe], dtypes: Sequence[str] = ("int16",)) -> Verdict:
    """Compare, and name the likely cause of a difference. `dtypes` are arithmetics to try besides float32."""
    texts = [probe.text for probe in probes]
    answers = [other.alone(text) for text in texts]
    rows = ours.rows(texts)
    mine = ours.vectors(rows).astype(np.float64)
    answered = [index for index, answer in enumerate(answers) if answer.vector is not None]
    table = tuple(
        _row(probe, len(ids), answer, vector)
        for probe, ids, answer, vector in zip(probes, rows, answers, mine, strict=True)
    )
    notes = [f"{row.probe}: refused ({row.refused})" for row in table if row.refused]

    def verdict(cause: str | None, words: str) -> Verdict:
        return Verdict(ours.location.id, other.name, cause is None, cause, words, table, tuple(notes))

    theirs = [vector for vector in (answers[index].vector for index in answered) if vector is not None]
    if not theirs:
        return verdict("unknown", "the other side gave no vector at all")
    if not all(np.isfinite(vector).all() for vector in theirs):
        return verdict("dtype", "the other side gives NaN or nothing for a number: float16 overflows in this model")
    sizes = {len(vector) for vector in theirs}
    if len(sizes) > 1:
        return verdict("unknown", f"the other side gives vectors of different sizes: {sorted(sizes)}")
    compare = Comparison(ours, [texts[i] for i in answered], np.stack(theirs), [answers[i].tokens for i in answered])
    batch = other.together([texts[i] for i in answered])
    if batch is not None:
        steady = float(np.min(cosines(np.stack(batch), np.stack(theirs))))
        if steady < SAME:
            words = f"the other side's vectors change when texts are sent together (cosine down to {steady:.6f})"
            notes.append(words)
            if compare.plain() >= SAME:
                return verdict("batch", words + "; padding or neighbours reach into a text")
    return verdict(*compare.judge(dtypes))


class Comparison:
    """The other side's vectors of some texts, and attempts to reproduce them."""

    def __init__(self, ours: Ours, texts: Sequence[str], theirs: Floats, counts: Sequence[int | None]) -> None:
        self._ours = ours
        self._theirs = theirs
        self._counts = counts
        self._order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        self._texts = texts
        self._rows = ours.rows(texts)

    def plain(self) -> float:
        """Least cosine with nothing changed; 0 when the sizes differ."""
        return self._least(None, None, stop=-2.0)

    def judge(self, dtypes: Sequence[str]) -> tuple[str | None, str]:
        """Return the cause, `None` for none, and words for it."""
        size, own = self._theirs.shape[1], self._ours.program.dimensions
        lengths = np.linalg.norm(self._theirs, axis=1)
        mine = self._ours.vectors(self._rows).astype(np.float64)
        if size < own and min(cosines(mine[:, :size], self._theirs)) >= SAME:
            return "dimensions", f"the other side gives the first {size} of {own} numbers"
        base = self.plain()
        if base >= SAME:
            own_lengths = np.linalg.norm(mine, axis=1)
            if np.abs(lengths / own_lengths - 1).max() > 1e-3:
                return "normalisation", f"the same directions, but lengths {lengths.min():.4g} to {lengths.max():.4g}"
            off = np.abs(self._theirs / lengths[:, None] - mine / own_lengths[:, None]).max()
            if off <= EXACT:
                return None, f"the same vectors, within {off:.0e} in every component"
            return self._rounded(base)
        found = max(self._faults(dtypes, base), key=lambda fault: fault.cosine, default=None)
        if found and found.cosine >= SAME:
            return found.cause, f"its vectors are ours {found.words}"
        if found and found.cosine >= NEAR and 1 - found.cosine < GAIN * (1 - base):
            return (
                found.cause,
                f"its vectors are about ours {found.words} (cosine {found.cosine:.6f}), in a lower precision",
            )
        return self._guess(base, found)

    def _guess(self, base: float, found: Found | None) -> tuple[str, str]:
        """What can be said when no fault reproduces the vectors."""
        if base >= NEAR:
            form = next(
                (name for name, same in _ROUNDINGS.items() if np.array_equal(same(self._theirs), self._theirs)), ""
            )
            said = f"; its numbers are rounded to {form}" if form else ""
            return "dtype", f"close everywhere and exact nowhere (cosine down to {base:.6f}): a lower precision{said}"
        pairs = [(len(row), count) for row, count in zip(self._rows, self._counts, strict=True) if count is not None]
        if any(here != there for here, there in pairs):
            here, there = next(pair for pair in pairs if pair[0] != pair[1])
            return "tokenizer", (
                f"no fault that was tried gives its vectors, but it counts {there} tokens where there are {here}: "
                "another tokenizer, or another model"
            )
        nearest = f"; the nearest is ours {found.words}, cosine {found.cosine:.4f}" if found else ""
        return (
            "unknown",
            f"no fault that was tried gives its vectors (cosine down to {base:.4f}){nearest}: another model?",
        )

    def _rounded(self, base: float) -> tuple[str, str]:
        form = next((name for name, same in _ROUNDINGS.items() if np.array_equal(same(self._theirs), self._theirs)), "")
        said = f"; its numbers are rounded to {form}" if form else ""
        return "dtype", f"close everywhere and exact nowhere (cosine down to {base:.8f}): a lower precision{said}"

    def _faults(self, dtypes: Sequence[str], base: float) -> Iterator[Found]:
        """Try every fault alone; where none fits, every two of different kinds."""
        programs = list(computed(self._ours, dtypes))
        pairs = zip(self._rows, self._counts, strict=True)
        counts = [count for row, count in pairs if count is not None and count < len(row)]
        reads = list(read(self._ours, counts))
        singles: list[tuple[Computed | None, Read | None]] = [(p, None) for p in programs] + [(None, r) for r in reads]
        tried = [self._try(program, reading, max(base, NEAR)) for program, reading in singles]
        yield from tried
        if max((fault.cosine for fault in tried), default=0.0) < NEAR:
            for program in programs:
                for reading in reads:
                    if program.cause != "dtype":
                        yield self._try(program, reading, SAME)

    def _try(self, program: Computed | None, reading: Read | None, stop: float) -> Found:
        parts = [part for part in (program, reading) if part is not None]
        cause = " and ".join(part.cause for part in parts)
        return Found(cause, " and ".join(part.words for part in parts), self._least(program, reading, stop))

    def _least(self, program: Computed | None, reading: Read | None, stop: float) -> float:
        """Least cosine over the texts, shortest first; below `stop` the rest is not computed."""
        least, compared = 1.0, 0
        other, dtype = (program.program, program.dtype) if program else (None, "float32")
        for index in self._order:
            row = reading.rows([self._texts[index]])[0] if reading else self._rows[index]
            if len(row) == 0:  # the empty text without its special tokens: nothing to compare
                continue
            vector = self._ours.vectors([row], other, dtype)
            if vector.shape[1] != self._theirs.shape[1]:
                return 0.0
            compared += 1
            least = min(least, float(cosines(vector, self._theirs[index : index + 1])[0]))
            if least < stop:
                break
        return least if compared else 0.0


def _bfloat16(vectors: Floats) -> Floats:
    bits = vectors.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


def _float16(vectors: Floats) -> Floats:
    # JSON writes the shortest decimal of the narrow type or of float32; both come back to the same narrow number.
    return vectors.astype(np.float16).astype(np.float64)


_ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {"float16": _float16, "bfloat16": _bfloat16}


def _row(probe: Probe, tokens: int, answer: Answer, mine: Floats) -> Row:
    vector = answer.vector
    same_size = vector is not None and len(vector) == len(mine)
    return Row(
        probe=probe.name,
        tokens=tokens,
        tokens_there=answer.tokens,
        cosine=float(cosines(vector[None], mine[None])[0]) if vector is not None and same_size else None,
        length=float(np.linalg.norm(vector)) if vector is not None else None,
        refused=answer.refused,
    )
