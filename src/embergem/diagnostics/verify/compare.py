"""Compares a model with another engine, and finds the fault that reproduces the other engine's vectors.

The cause of a difference is found by trying: each fault of `faults` is applied to the local model, and the fault whose
vectors agree with those of the other engine is the cause.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem.diagnostics.verify.faults import ProgramFault, TokenFault, program_faults, token_faults
from embergem.diagnostics.verify.local import LocalModel
from embergem.diagnostics.verify.peers import Answer, Peer
from embergem.diagnostics.verify.probes import Probe
from embergem.engine.calibration import cosines

Floats = NDArray[np.float64]

SAME_COSINE = 0.99999
"""Least cosine of two float32 computations of the same vector."""
SAME_COMPONENT = 1e-5
"""Largest difference of a component between two float32 computations of the same vector."""
LOW_PRECISION_COSINE = 0.99
"""Least cosine of the same vector in a lower precision."""
UNEXPLAINED = 0.2
"""A fault explains a difference in a lower precision if it leaves at most this share of the difference."""


class Row(msgspec.Struct, frozen=True):
    """The comparison of one probe.

    `tokens` is the number of tokens here, `tokens_there` the number that the other engine reports, if it does. `length`
    is the length of the other engine's vector. `refused` is the reason why the other engine gave no vector.
    """

    probe: str
    tokens: int
    tokens_there: int | None
    cosine: float | None
    length: float | None
    refused: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """Whether both engines agree and, if not, why.

    `cause` is one of dense, window, prompt, truncation, normalisation, pooling, attention, positions, rope, weights,
    tokenizer, dtype, batch, dimensions and unknown, or two of them joined by "and"; None if both agree. `explanation`
    describes it. `notes` are further observations.
    """

    model: str
    against: str
    agrees: bool
    cause: str | None
    explanation: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """A fault, and the least cosine over all probes between its vectors and those of the other engine."""

    cause: str
    description: str
    cosine: float


def verify(model: LocalModel, peer: Peer, probes: Sequence[Probe], dtypes: Sequence[str] = ("int16",)) -> Verdict:
    """Compare a model with another engine, and name the likely cause of a difference.

    Args:
        model: The model on this machine.
        peer: The other engine.
        probes: The texts to compare.
        dtypes: Arithmetics to try besides float32.
    """
    texts = [probe.text for probe in probes]
    answers = [peer.embed_one(text) for text in texts]
    ids = model.rows(texts)
    ours = model.vectors(ids).astype(np.float64)
    rows = tuple(
        _compare_probe(probe, len(tokens), answer, vector)
        for probe, tokens, answer, vector in zip(probes, ids, answers, ours, strict=True)
    )
    notes = [f"{row.probe}: refused ({row.refused})" for row in rows if row.refused]

    def verdict(cause: str | None, explanation: str) -> Verdict:
        return Verdict(model.location.id, peer.name, cause is None, cause, explanation, rows, tuple(notes))

    answered = [index for index, answer in enumerate(answers) if answer.vector is not None]
    theirs = [vector for answer in answers if (vector := answer.vector) is not None]
    if not theirs:
        return verdict("unknown", "the other engine gave no vector at all")
    if not all(np.isfinite(vector).all() for vector in theirs):
        return verdict("dtype", "the other engine gives NaN or null for a number: float16 overflows in this model")
    sizes = {len(vector) for vector in theirs}
    if len(sizes) > 1:
        return verdict("unknown", f"the other engine gives vectors of different sizes: {sorted(sizes)}")
    answered_texts = [texts[index] for index in answered]
    comparison = Comparison(model, answered_texts, np.stack(theirs), [answers[index].tokens for index in answered])
    batch = peer.embed_together(answered_texts)
    if batch is not None:
        least = float(np.min(cosines(np.stack(batch), np.stack(theirs))))
        if least < SAME_COSINE:
            observation = f"the other engine's vectors change if texts are sent together (cosine down to {least:.6f})"
            notes.append(observation)
            if comparison.unchanged_cosine() >= SAME_COSINE:
                return verdict("batch", f"{observation}; padding or neighbouring texts change a vector")
    return verdict(*comparison.diagnose(dtypes))


class Comparison:
    """The other engine's vectors of some texts, and attempts to reproduce them.

    Args:
        model: The model on this machine.
        texts: The texts.
        theirs: The other engine's vectors, shape `(len(texts), dimensions)`.
        counts: The numbers of tokens that the other engine reported, None where it reported none.
    """

    def __init__(self, model: LocalModel, texts: Sequence[str], theirs: Floats, counts: Sequence[int | None]) -> None:
        self._model = model
        self._theirs = theirs
        self._counts = counts
        self._shortest_first = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        self._texts = texts
        self._rows = model.rows(texts)

    def unchanged_cosine(self) -> float:
        """Return the least cosine to the model without a fault; 0 if the sizes differ."""
        return self._least_cosine(None, None, stop=-2.0)

    def diagnose(self, dtypes: Sequence[str]) -> tuple[str | None, str]:
        """Return the cause of the difference, None if there is none, and a description."""
        size, own_size = self._theirs.shape[1], self._model.program.dimensions
        lengths = np.linalg.norm(self._theirs, axis=1)
        ours = self._model.vectors(self._rows).astype(np.float64)
        if size < own_size and min(cosines(ours[:, :size], self._theirs)) >= SAME_COSINE:
            return "dimensions", f"the other engine gives the first {size} of {own_size} numbers"
        base = self.unchanged_cosine()
        if base >= SAME_COSINE:
            own_lengths = np.linalg.norm(ours, axis=1)
            if np.abs(lengths / own_lengths - 1).max() > 1e-3:
                return "normalisation", f"the same directions, but lengths {lengths.min():.4g} to {lengths.max():.4g}"
            difference = np.abs(self._theirs / lengths[:, None] - ours / own_lengths[:, None]).max()
            if difference <= SAME_COMPONENT:
                return None, f"the same vectors, within {difference:.0e} in every component"
            return "dtype", self._describe_low_precision(base)
        best = max(self._matches(dtypes, base), key=lambda match: match.cosine, default=None)
        if best and best.cosine >= SAME_COSINE:
            return best.cause, f"the other engine's vectors are those of this model {best.description}"
        if best and best.cosine >= LOW_PRECISION_COSINE and 1 - best.cosine < UNEXPLAINED * (1 - base):
            return best.cause, (
                f"the other engine's vectors are about those of this model {best.description} "
                f"(cosine {best.cosine:.6f}), in a lower precision"
            )
        return self._unexplained(base, best)

    def _unexplained(self, base: float, best: Match | None) -> tuple[str, str]:
        """Return the cause and a description if no fault reproduces the vectors."""
        if base >= LOW_PRECISION_COSINE:
            return "dtype", self._describe_low_precision(base)
        pairs = [(len(row), count) for row, count in zip(self._rows, self._counts, strict=True) if count is not None]
        if any(here != there for here, there in pairs):
            here, there = next(pair for pair in pairs if pair[0] != pair[1])
            return "tokenizer", (
                f"no fault that was tried gives its vectors, but it counts {there} tokens where there are {here}: "
                "another tokenizer, a chat template around the texts, or another model"
            )
        nearest = f"; the nearest are those of this model {best.description}, cosine {best.cosine:.4f}" if best else ""
        return "unknown", (
            f"no fault that was tried gives its vectors (cosine down to {base:.4f}){nearest}; it may be another model"
        )

    def _describe_low_precision(self, base: float) -> str:
        rounding = next((name for name, round_to in _ROUNDINGS.items() if self._is_rounded(round_to)), "")
        detail = f"; its numbers are rounded to {rounding}" if rounding else ""
        return f"similar everywhere and equal nowhere (cosine down to {base:.8f}): a lower precision{detail}"

    def _is_rounded(self, round_to: Callable[[Floats], Floats]) -> bool:
        return bool(np.array_equal(round_to(self._theirs), self._theirs))

    def _matches(self, dtypes: Sequence[str], base: float) -> Iterator[Match]:
        """Try each fault alone. If none fits, try each pair of a program fault and a token fault."""
        programs = list(program_faults(self._model, dtypes))
        pairs = zip(self._rows, self._counts, strict=True)
        counts = [count for row, count in pairs if count is not None and count < len(row)]
        tokens = list(token_faults(self._model, counts))
        singles: list[tuple[ProgramFault | None, TokenFault | None]] = [
            *((fault, None) for fault in programs),
            *((None, fault) for fault in tokens),
        ]
        tried = [self._try(program, token, max(base, LOW_PRECISION_COSINE)) for program, token in singles]
        yield from tried
        if max((match.cosine for match in tried), default=0.0) < LOW_PRECISION_COSINE:
            for program in programs:
                for token in tokens:
                    if program.cause != "dtype":
                        yield self._try(program, token, SAME_COSINE)

    def _try(self, program: ProgramFault | None, token: TokenFault | None, stop: float) -> Match:
        faults = [fault for fault in (program, token) if fault is not None]
        cause = " and ".join(fault.cause for fault in faults)
        description = " and ".join(fault.description for fault in faults)
        return Match(cause, description, self._least_cosine(program, token, stop))

    def _least_cosine(self, program: ProgramFault | None, token: TokenFault | None, stop: float) -> float:
        """Return the least cosine over the texts. Texts after the first below `stop` are not computed."""
        least, compared = 1.0, 0
        source, dtype = (program.program, program.dtype) if program else (None, "float32")
        for index in self._shortest_first:
            row = token.rows([self._texts[index]])[0] if token else self._rows[index]
            if len(row) == 0:  # the empty text without special tokens
                continue
            vector = self._model.vectors([row], source, dtype)
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
    # JSON has the shortest decimal of the float16 or of the float32 number; both round to the same float16.
    return vectors.astype(np.float16).astype(np.float64)


_ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {"float16": _float16, "bfloat16": _bfloat16}


def _compare_probe(probe: Probe, tokens: int, answer: Answer, ours: Floats) -> Row:
    vector = answer.vector
    same_size = vector is not None and len(vector) == len(ours)
    return Row(
        probe=probe.name,
        tokens=tokens,
        tokens_there=answer.tokens,
        cosine=float(cosines(vector[None], ours[None])[0]) if vector is not None and same_size else None,
        length=float(np.linalg.norm(vector)) if vector is not None else None,
        refused=answer.refused,
    )
