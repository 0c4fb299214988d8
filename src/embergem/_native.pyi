"""Types of the native module (crates/python). `tests/test_native_stub.py` compares this file with the module."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__version__: str
BUILDS: tuple[str, str]
"""Hashes of the sources of crates/core and crates/text: a result that another build stored on disk is not used."""
LEAST_BATCH_BUDGET: int
"""The smallest result of `Model.batch_budget`."""

def cut(vectors: NDArray[np.float32], size: int, norm_first: bool) -> NDArray[np.float32]:
    """Truncate each row of `vectors`, shape (n, d), to its first `size` values and scale it to length 1: (n, size).

    With `norm_first` the mean of the whole row is subtracted first.
    """

def available_memory() -> int | None:
    """Return the bytes of memory that this process may still allocate; None if the system does not say."""

def instruction_sets() -> list[str]:
    """Return the names of the instruction sets that this machine can run, slowest first."""

def packed_limit(text: str) -> int | None:
    """Parse a size such as "2GB" to bytes; return None for any other text."""

def kept_packed(directory: str) -> list[tuple[Path, int, float, tuple[list[Path], list[str]] | None]]:
    """List the files of packed weights in a directory, least recently used first.

    Each entry is (path, size in bytes, time of the last use in seconds since 1970, content). The content is None for a
    damaged file, else (weight files from which it was made, [precision, instruction set, hash of the program]).
    """

def fingerprint(
    program: str, files: Sequence[tuple[str, str]], tokenizer_json: str, *, notes: str | None = None
) -> str:
    """Return the fingerprint of a model's vector space, a SHA-256 digest in hexadecimal.

    Two models have the same fingerprint if equal ids give equal vectors. The digest covers the tensors that `program`
    (JSON) reads from the weight `files`, given as (name prefix, path), the tokenizer, and the key of the program. With
    `notes`, a directory, the result is stored there under the path, size and modification time of the files.
    """

def prompt_sets() -> dict[str, dict[str, str]]:
    """Return the built-in prompt sets: set -> task -> pattern with {content} and, if it takes a title, {title}."""

class TextPipeline:
    """Prompts, tokenizer and limit of one model (crates/text). It is thread-safe and releases the GIL."""

    def __new__(
        cls,
        tokenizer_json: str,
        *,
        limit: int,
        vocab_size: int,
        prompts: str | None = None,
        builtin_prompts: str | None = None,
        bare: bool = False,
        keep_unknown: bool = False,
        cache: str | None = None,
    ) -> TextPipeline:
        """Read a tokenizer and the prompts of a model.

        Args:
            tokenizer_json: Path of the file.
            limit: Most tokens of an input.
            vocab_size: Rows of the embedding table.
            prompts: Content of config_sentence_transformers.json.
            builtin_prompts: Name of a prompt set of crates/text, such as "embeddinggemma", for tasks that `prompts`
                does not name.
            bare: Add no special tokens and remove unknown ones (Model2Vec). A row may then be empty.
            keep_unknown: Keep unknown tokens nevertheless (StaticEmbedding).
            cache: Directory in which a tokenizer.json is stored in a form that is faster to read; None stores nothing.
        """

    @property
    def tasks(self) -> list[str]:
        """The names that `task` accepts, sorted; empty for a model without prompts."""

    def pattern(self, task: str) -> str | None:
        """Return the prompt of `task` with `{content}` and, if it takes one, `{title}`. Raises InvalidTask."""

    @property
    def max_chars_per_token(self) -> int | None:
        """The most characters that one token can cover; None if the tokenizer has no such bound."""

    def prepare(
        self,
        texts: Sequence[str],
        *,
        task: str | None = None,
        titles: Sequence[str | None] | None = None,
        truncate: bool = False,
        count: bool = False,
        cancel: CancelToken | None = None,
    ) -> list[tuple[NDArray[np.uint32], int]]:
        """Apply the prompt, tokenize and check the limit. Return (ids, tokens before truncation) for each text.

        A text that is cut is not tokenized to its end, so the second number is only known to exceed the limit. With
        `count` it is exact.

        `cancel` stops the work after the current pieces of long texts, with `Cancelled`.
        """

    def align(
        self, texts: Sequence[str], *, task: str | None = None, titles: Sequence[str | None] | None = None
    ) -> list[tuple[str, list[tuple[int, str, tuple[int, int] | None, bool]]]]:
        """Return for each text the text with its prompt, and all its tokens before truncation.

        A token is (id, entry of the vocabulary, first and end position in characters, whether the model reads it); the
        special tokens around the text have no position. `titles` has one title a text. This takes up to 570 bytes of
        memory for each byte of a text.
        """

    def prepare_ids(
        self, rows: Sequence[Sequence[int]], *, truncate: bool = False
    ) -> list[tuple[NDArray[np.uint32], int]]:
        """Check token ids of the caller; return (ids, tokens before truncation) for each row."""

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Return all ids of `text` without a prompt and without truncation, with the special tokens if `special`."""

    def detokenize(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of `ids`, without special tokens if `skip_special`."""

class FileStates:
    """The size and the times of files at one time."""

    def __new__(cls, files: Sequence[Path]) -> FileStates:
        """Read the state of `files`. Raises CorruptCheckpoint if one cannot be read."""

    def require_unchanged(self) -> None:
        """Do nothing if the files are in this state. Raises CorruptCheckpoint if one is in another state."""

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

def read_checkpoint(root: Path) -> str:
    """Read the files of the checkpoint in the directory `root` (crates/checkpoint), and return them as JSON.

    The object has config, head, weights, tokenizer, prompts, limit and limit_declared as `Checkpoint` has them, the
    sizes of a static model's `table`, or null, and `warnings` for the log. It also has `width` and `remote_code`.
    """

def read_modules(root: Path) -> tuple[str, str]:
    """Read modules.json and the configs of the head in the directory `root`.

    Returns the directory of the transformer, relative to the root, and the head as JSON.
    """

def dense_files(root: Path) -> list[tuple[str, Path]]:
    """Return prefix and weight file of each dense layer in the head of the checkpoint in the directory `root`."""

def require_all_read(program: str, files: Sequence[tuple[str, str]]) -> None:
    """Refuse weight files with a tensor that `program` (JSON) does not read, unless it is known to change no vector.

    `files` are pairs (name prefix, path). Raises UnsupportedModel, which names the tensor, and MissingTensor if the
    program reads a tensor that no file has.
    """

def parse_modules(data: bytes, file: str) -> list[tuple[str, str]]:
    """Return kind and path of each entry in the text of a modules.json; `file` names its origin in errors."""

class CancelToken:
    """A flag that stops a run before its next step, or tokenizing before the next piece of a long text."""

    def __new__(cls) -> CancelToken: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class LoadProgress:
    """How far `Model.load` is with packing the weights, for another thread."""

    def __new__(cls) -> LoadProgress: ...
    def read(self) -> tuple[int, int]:
        """Return the number of weights that are packed, and of all weights.

        Both are 0 until they are known, and if an earlier start has packed the weights.
        """

class Model:
    """A loaded model: a program with its weights (crates/core). It is thread-safe and releases the GIL."""

    @staticmethod
    def load(
        program: str,
        files: Sequence[tuple[str, str]],
        *,
        threads: int | None = None,
        dtype: str = "float32",
        memory_limit: int | None = None,
        notes: str | None = None,
        packed: str | None = None,
        packed_limit: int = 0,
        instruction_set: str | None = None,
        progress: LoadProgress | None = None,
    ) -> Model:
        """Map the weight files and pack the weights of a program.

        Args:
            program: The program as JSON.
            files: Weight files as (name prefix, path).
            threads: Most threads of a run; None is one for each core.
            dtype: Arithmetic of the matrix products over tokens: "float32", "bfloat16", "int16" or "int8".
            memory_limit: Most bytes of packed weights; None is the memory that the system reports as available.
            notes: Directory in which it is remembered that the embedding table is finite, and its checksum. None reads
                the table at each load.
            packed: Directory of packed weights, from which later loads map them.
            packed_limit: Most bytes of all files in that directory.
            instruction_set: Kernels to use, for tests; one of `instruction_sets()`. None is the fastest.
            progress: Counts the packed weights, for another thread.

        Raises UnsupportedModel, CorruptCheckpoint, MissingTensor, InsufficientMemory or UnsupportedOption.
        """

    @property
    def failure(self) -> str | None:
        """Why every run fails: a file of the model was overwritten or cut short. None if no file was."""

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
    @property
    def smoothing_exponents(self) -> dict[int, NDArray[np.int8]]:
        """Exponents of the input channels of each int8 product, by the number of its step; empty for other dtypes."""

    def batch_budget(self, files: Sequence[Path], limit: int, notes: Path, cancel: CancelToken) -> int:
        """Return how many tokens a batch should have at most on this machine.

        `limit` is the most tokens of one input. The budget is measured once for these weight `files` and remembered in
        the directory `notes`. Interactive runs go first meanwhile. Raises Cancelled, and what `run` raises.
        """

    def known_batch_budget(self, files: Sequence[Path], notes: Path) -> int | None:
        """Return what `batch_budget` measured before for these files; None if it did not."""

    def least_cosine(
        self, program: str, files: Sequence[tuple[str, str]], *, notes: str, progress: LoadProgress | None = None
    ) -> float:
        """Return the least cosine of this model's vectors to those of the same model in float32.

        `program` and `files` are those that the model was loaded from. It is measured over fixed rows of ids, once for
        these files, and remembered in the directory `notes`. Raises what `load` and `run` raise.
        """

    def run(
        self,
        ids: NDArray[np.uint32],
        cu_seqlens: NDArray[np.uint32],
        cancel: CancelToken | None = None,
        lane: str = "interactive",
    ) -> NDArray[np.float32]:
        """Compute the vectors of packed rows.

        `ids` has shape (sum of lengths,), `cu_seqlens` (n + 1,) the offsets of the n rows. The result has shape
        (n, dimensions). `lane` is "interactive" or "bulk": between two steps bulk runs let interactive runs of any
        model go first. Raises InvalidRequest for an invalid batch, Cancelled, InsufficientMemory, ModelFailed if a file
        of the model has changed, and NonFiniteOutput, whose `row` is the first row that is not finite.
        """

    def profile(self, ids: NDArray[np.uint32], cu_seqlens: NDArray[np.uint32]) -> list[float]:
        """Run a batch step by step and return the seconds of each step."""

    def peak(self, seconds: float) -> float:
        """Measure the peak floating point operations per second of the model's threads, for about `seconds`."""

class Tensors:
    """The tensors of safetensors and GGUF files, mapped into memory. GGUF tensors have the names of the checkpoint."""

    def __new__(cls, files: Sequence[tuple[str, str]], *, prefixes: Sequence[str] = ()) -> Tensors:
        """Map the `files`, given as (name prefix, path), and check their layout.

        Lookups try `prefixes` in front of a name, besides those that they try for every model.
        """
    @property
    def metadata(self) -> str:
        """The metadata of a GGUF file as JSON, `{}` for safetensors. Long arrays are `{"array": length}`."""

    @property
    def list(self) -> list[tuple[str, list[int], str]]:
        """Name, shape (rows first) and element type of each tensor, in name order."""

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows start..stop of a tensor as float32, shape (stop - start, product of the other sizes).

        `name` may omit prefixes such as `model.`. A tensor of one dimension can only be read whole.
        """
