"""Matrices as integers with scales, as compiled directories store them.

`crates/core/src/format/integers.rs` reads them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embergem.checkpoint.writer import Dtype, Floats, Stored

PEAKS: dict[Dtype, int] = {"I8": 127, "I16": 32_767}
"""Largest integer of each kind."""
GROUP = 32
"""Neighbours in a row that share a scale as I8: one outlier takes the bits of all that share its scale."""


def stored(matrix: Stored) -> tuple[Stored, Stored]:
    """Return two tensors for one of kind I8 or I16 whose pieces are floats, whole rows: its integers, its scales."""
    rows, columns = matrix.shape
    groups = columns if matrix.dtype == "I16" else GROUP

    def integers() -> Iterator[NDArray[np.int16]]:
        return (_integers(piece, groups, PEAKS[matrix.dtype]) for piece in matrix.pieces())

    def scales() -> Iterator[Floats]:
        return (_scales(piece, groups, PEAKS[matrix.dtype]) for piece in matrix.pieces())

    shape = (rows, -(-columns // groups))
    return Stored(matrix.name, matrix.shape, matrix.dtype, integers), Stored(
        f"{matrix.name}.scales", shape, "F32", scales
    )


def _scales(rows: Floats, group: int, peak: int) -> Floats:
    """What a unit of each group is worth, shape `(n, groups)`: its largest value becomes `peak`."""
    padding = -rows.shape[1] % group
    padded = np.pad(np.abs(rows), ((0, 0), (0, padding)))
    largest: Floats = padded.reshape(len(rows), -1, group).max(axis=2)
    return largest / np.float32(peak)


def _integers(rows: Floats, group: int, peak: int) -> NDArray[np.int16]:
    scales = np.repeat(_scales(rows, group, peak), group, axis=1)[:, : rows.shape[1]]
    units = np.divide(rows, scales, out=np.zeros_like(rows), where=scales > 0)
    return np.clip(np.rint(units), -peak, peak).astype(np.int16)
