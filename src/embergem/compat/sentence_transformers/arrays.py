"""Converts arguments of sentence-transformers' functions to NumPy arrays, and results back to the caller's kind.

Separate because every function of that interface takes lists, arrays and tensors, and torch is imported nowhere else.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.errors import UnsupportedOption


def is_tensor(value: object) -> bool:
    """Return whether `value` is a torch tensor, or a list of them, without importing torch."""
    if isinstance(value, list | tuple) and value:
        return is_tensor(value[0])
    return type(value).__module__.partition(".")[0] == "torch"


def to_array(value: Any) -> NDArray[Any]:
    """Return vectors as one array: float32, or int8 and uint8 as they are.

    Args:
        value: An array, a tensor, or a list of numbers, of arrays or of tensors.
    """
    if isinstance(value, list | tuple) and value and is_tensor(value):
        return np.stack([to_array(one) for one in value])
    if is_tensor(value):
        value = value.detach().cpu().float().numpy()
    found = np.asarray(value)
    return found if found.dtype in (np.float32, np.int8, np.uint8) else found.astype(np.float32)


def to_matrix(value: Any) -> NDArray[np.float32]:
    """Return vectors as a float32 array (n, d); one vector becomes (1, d)."""
    return np.atleast_2d(to_array(value)).astype(np.float32, copy=False)


def like(result: NDArray[Any], *given: object) -> Any:
    """Return `result` as a torch tensor if one of the arguments in `given` is one, and as it is otherwise."""
    return to_tensor(result) if any(map(is_tensor, given)) else result


def to_tensor(array: NDArray[Any]) -> Any:
    """Return the array as a torch tensor.

    Raises:
        UnsupportedOption: torch is not installed.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        message = "convert_to_tensor needs the package torch, which is not installed: pip install torch"
        raise UnsupportedOption(message, param="convert_to_tensor") from None
    return torch.from_numpy(np.ascontiguousarray(array))


def blocks(count: int, size: int) -> Sequence[slice]:
    """Return slices of at most `size` that cover `count` rows.

    >>> blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
