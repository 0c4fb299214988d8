"""Types of the native module; `tests/test_native_stub.py` holds it against the module itself."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__version__: str
BUILDS: tuple[str, str]
"""Hashes of the sources of crates/core and crates/text: a result that another build stored on disk is not used."""

def cut(vectors: NDArray[np.float32], size: int, norm_first: bool) -> NDArray[np.float32]:
    """Keep the first `size` numbers of each row of (n, d) and scale it to length 1 again: (n, size).

    With `norm_first` the mean of the whole row is taken off first.
    """

def instruction_sets() -> list[str]:
    """Names of the kernels that this machine can run."""

def packed_limit(text: str) -> int | None:
    """Return the bytes that a size such as "2GB" names; None if it is none."""

def kept_packed(directory: str) -> list[tuple[Path, int, float, tuple[list[Path], list[str]] | None]]:
    """List the files of packed weights in a directory, the longest unused first.

    Each with its bytes, when it was used last (seconds since 1970), the weight files it was made from, and its
    arithmetic, kernels and program; None for those two where the file is damaged.
    """

def fingerprint(
    program: str, files: Sequence[tuple[str, str]], tokenizer_json: str, *, notes: str | None = None
) -> str:
    """Name the space that a model's vectors are in: a sha256 in hex, equal where equal ids give equal vectors.

    It covers the tensors that `program` (JSON) reads from the safetensors `files` (name prefix, path), the tokenizer,
    and the program's key. In the directory `notes` it is remembered by path, size and time of change of the files.
    """

def prompt_sets() -> dict[str, dict[str, str]]:
    """The prompts that ship with embergem: set -> task -> pattern, with places for {title} and {content}."""

class TextPipeline:
    """Prompts, tokenizer and limit of one model (crates/text). Thread-safe; releases the GIL."""

    def __new__(
        cls,
        tokenizer_json: str,
        *,
        limit: int,
        vocab_size: int,
        prompts: str | None = None,
        builtin_prompts: str | None = None,
        bare: bool = False,
    ) -> TextPipeline:
        """Read `tokenizer_json` (a path).

        `limit`: most tokens a row may have. `vocab_size`: rows of the embedding table. `prompts`: the text of
        config_sentence_transformers.json. `builtin_prompts`: a set shipped in crates/text, such as "embeddinggemma",
        which fills what the checkpoint's own prompts don't name. `bare`: no special tokens, and unknown ones are left
        out (Model2Vec), so that a row may be empty.
        """

    @property
    def tasks(self) -> list[str]:
        """Names accepted as `task`, sorted; empty for a model without prompts."""

    def pattern(self, task: str) -> str | None:
        """Return the prompt of `task` with `{content}` and, where it takes one, `{title}`; raise InvalidTask."""

    @property
    def max_chars_per_token(self) -> int | None: ...
    def prepare(
        self,
        texts: Sequence[str],
        *,
        task: str | None = None,
        titles: Sequence[str | None] | None = None,
        truncate: bool = False,
    ) -> list[tuple[NDArray[np.uint32], int]]:
        """Apply the prompt, tokenize, check the limit: (ids, tokens before the cut) per text."""

    def prepare_ids(
        self, rows: Sequence[Sequence[int]], *, truncate: bool = False
    ) -> list[tuple[NDArray[np.uint32], int]]:
        """Check ids given verbatim: range, emptiness, limit."""

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """All ids of `text` as it stands, with the special tokens around them if `special`."""

    def detokenize(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text that `ids` spell, without special tokens if `skip_special`."""

class Note:
    """A result about files in a certain state, stored in a directory that the Rust SDK shares."""

    def __new__(cls, directory: Path, kind: str, files: Sequence[Path], variant: Sequence[str]) -> Note:
        """Name the result `kind` about exactly these `files`, unchanged since (path, size and time of change).

        `variant` lists everything else that the result depends on. Raises FileNotFoundError if a file cannot be read.
        """

    def read(self) -> str | None:
        """Return the stored text, or None if there is none."""

    def write(self, text: str) -> None:
        """Store `text`. If the directory cannot be written, nothing is stored, and the work is done again next time."""

class CancelToken:
    """A flag that stops a run at its next step boundary."""

    def __new__(cls) -> CancelToken: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class Model:
    """A program with its weights, ready to run (crates/core). Thread-safe; releases the GIL."""

    @staticmethod
    def load(
        program: str,
        files: Sequence[tuple[str, str]],
        *,
        threads: int | None = None,
        dtype: str = "float32",
        memory_limit: int | None = None,
        scan: bool = True,
        packed: str | None = None,
        packed_limit: int = 0,
        instruction_set: str | None = None,
    ) -> Model:
        """Map the safetensors `files` as (name prefix, path) and run the weights section of `program` (JSON).

        `threads`: None is one a core. `dtype`: arithmetic of the large products, "float32" or "int16".
        `memory_limit` (bytes): refuse to load what needs more than this; None is what the machine has left. `scan`
        reads the embedding table, too, for values that are not finite. Packed weights are kept in the directory
        `packed`, in files of at most `packed_limit` bytes together, and mapped from there by later loads.
        `instruction_set` names the kernels, for tests: "portable", "avx2", "avx512", "avx512-vnni".
        """

    @property
    def dimensions(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def threads(self) -> int: ...
    def batch_budget(self, files: Sequence[Path], limit: int, notes: Path) -> int:
        """Return how many tokens a batch should have at most on this machine.

        `limit` is the most tokens of one input. The budget is measured once for these weight `files` and remembered in
        the directory `notes`.
        """

    def least_cosine(self, exact: Callable[[], Model], files: Sequence[Path], notes: Path) -> float:
        """Return the least cosine of this model's vectors to those of the model that `exact` loads in float32.

        It is measured over fixed rows of ids, once for these weight `files`, and remembered in the directory `notes`;
        `exact` is called only to measure.
        """

    def run(
        self,
        ids: NDArray[np.uint32],
        cu_seqlens: NDArray[np.uint32],
        cancel: CancelToken | None = None,
        lane: str = "interactive",
    ) -> NDArray[np.float32]:
        """One call over packed rows: (sum of lengths,) ids, (n + 1,) offsets -> (n, dimensions) float32.

        Runs of the "bulk" lane let interactive ones go first between two steps, whichever model these are of.
        `NonFiniteOutput.row` is the first row that is not finite.
        """

    def profile(self, ids: NDArray[np.uint32], cu_seqlens: NDArray[np.uint32]) -> list[float]:
        """Seconds that each step of the program takes for a batch."""

    def peak(self, seconds: float) -> float:
        """Floating point operations a second that the model's threads can do at most, measured for so long."""

class Tensors:
    """The tensors of safetensors and GGUF files, mapped; names are those of embergem's model files."""

    def __new__(cls, files: Sequence[tuple[str, str]], *, prefixes: Sequence[str] = ()) -> Tensors:
        """Map the `files`, given as (name prefix, path), and check their layout.

        `prefixes` are tried in front of names that are looked up, besides those that are tried for every model.
        """
    @property
    def metadata(self) -> str:
        """What a GGUF file says about the model, as JSON; `{}` for safetensors. Long arrays are `{"array": length}`."""

    @property
    def list(self) -> list[tuple[str, list[int], str]]:
        """Name, shape (rows first) and element type of each, in name order."""

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start..stop of a tensor as float32, (stop - start, product of the other sizes).

        `name` may leave out prefixes such as `model.`; a vector is read whole.
        """
