"""Prepare a checkpoint for loading: trace its program, or take the program of a compiled model, and find its limits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from embergem import catalog
from embergem._native import TextPipeline
from embergem.checkpoint import packed
from embergem.checkpoint.checkpoint import Checkpoint
from embergem.checkpoint.remote_code import accept_known_code
from embergem.errors import CorruptCheckpoint, UnsupportedOption
from embergem.models import architecture, canonical_model_type, require_arch
from embergem.models.head import width_after
from embergem.options import ANY_ARCH, DEFAULTS, LoadOptions
from embergem.program.build import build
from embergem.program.program import Program
from embergem.selfcheck import base_model


@dataclass(frozen=True)
class Prepared:
    """What the engine needs to know about a model besides its files.

    Attributes:
        model_type: Name of the family, such as "gemma3_text".
        trace: Makes the program.
        limit: Most tokens of one input, special tokens included.
        vocab_size: Number of token ids.
        builtin_prompts: Name of a set of prompts in crates/text, or None.
        bare: Texts get no special tokens, and unknown tokens are removed.
        keep_unknown: A `bare` model keeps unknown tokens.
        trained_dimensions: Sizes that Matryoshka training covered; empty if there was none.
        norm_before_cut: A layer norm without weights comes before a cut of the vectors.
        config: The family's parsed config.json; None for a compiled model.
        entry: What the catalog has about this model.
        base: What the catalog has about this model or the one that it was fine-tuned from; see `selfcheck.base_model`.
    """

    model_type: str
    trace: Callable[[], Program]
    limit: int
    vocab_size: int
    builtin_prompts: str | None
    bare: bool
    keep_unknown: bool
    trained_dimensions: tuple[int, ...]
    norm_before_cut: bool
    config: Any = None
    entry: catalog.Entry | None = None
    base: catalog.Entry | None = None

    @cached_property
    def program(self) -> Program:
        """The program. It is traced at the first access, so that a tokenizer can be read in parallel."""
        return self.trace()


def prepare(checkpoint: Checkpoint, name: str, options: LoadOptions = DEFAULTS) -> Prepared:
    """Choose the family of a checkpoint and combine what its files and the catalog say.

    Args:
        checkpoint: The files of the model.
        name: Name of the model, by which the catalog may know it.
        options: `arch` and `window` apply here.

    Raises:
        UnsupportedModel: embergem does not have the family, the family is not `options.arch`, config.json has a field
            that is not known, or the model comes with code that is not known.
        CorruptCheckpoint: The program of a compiled model is damaged, or the pooling module has another width than the
            model.
        UnsupportedOption: `options.arch` does not exist, or the model has no window to replace.
    """
    arch = options.arch or ANY_ARCH
    if compiled := checkpoint.compiled:
        model_type = canonical_model_type(compiled.model_type)
        require_arch(model_type, arch)
        if options.window is not None:
            raise UnsupportedOption(
                "The window of a compiled model is part of its program. Leave out window.", param="window"
            )
        return Prepared(
            model_type=model_type,
            trace=lambda: Program.from_json(checkpoint.program),
            limit=compiled.text.limit,
            vocab_size=compiled.text.vocab_size,
            builtin_prompts=compiled.text.builtin_prompts,
            bare=compiled.text.bare,
            keep_unknown=compiled.text.keep_unknown,
            trained_dimensions=compiled.vectors.trained_dimensions,
            norm_before_cut=compiled.vectors.norm_before_cut,
        )
    kind = architecture(accept_known_code(checkpoint), arch=arch, window=options.window)
    if checkpoint.width is not None and kind.width not in (None, checkpoint.width):
        raise CorruptCheckpoint(
            f"The pooling module says that the model makes vectors of {checkpoint.width} numbers, and by config.json "
            f"it makes {kind.width}. The files belong to different models, or the model has a projection that embergem "
            "does not know. Download or save the model again."
        )
    entry = catalog.known(checkpoint.hub_id or name, kind.model_type)
    related = base_model(kind.model_type, kind.config, entry, checkpoint.declared_names)
    limits = [checkpoint.limit, kind.places, None if checkpoint.limit_declared or not related else related.limit]
    return Prepared(
        model_type=kind.model_type,
        trace=lambda: build(kind, checkpoint.head),
        limit=min(limit for limit in limits if limit),
        vocab_size=kind.config.vocab_size,
        builtin_prompts=(related and related.prompts) or kind.family.prompts,
        bare=kind.bare,
        keep_unknown=kind.keep_unknown,
        trained_dimensions=(
            related.allowed_dimensions
            if related and width_after(checkpoint.head, kind.width) in (None, related.dimensions)
            else _declared_dimensions(checkpoint.config)
        ),
        norm_before_cut=entry.norm_before_cut if entry else catalog.shared(kind.model_type, "norm_before_cut") is True,
        config=kind.config,
        entry=entry,
        base=related,
    )


def _declared_dimensions(config: dict[str, Any]) -> tuple[int, ...]:
    """Return the sizes that config.json says that the model was trained for.

    They count where the catalog knows no model of this size that it is, or was fine-tuned from.
    """
    sizes = config.get("matryoshka_dimensions")
    sizes = sizes if isinstance(sizes, list) else []
    return tuple(size for size in sizes if isinstance(size, int) and size > 0)


def text_pipeline(checkpoint: Checkpoint, prepared: Prepared) -> TextPipeline:
    """Read the tokenizer and the prompts of a checkpoint."""
    return TextPipeline(
        str(checkpoint.tokenizer),
        limit=prepared.limit,
        vocab_size=prepared.vocab_size,
        prompts=checkpoint.prompts,
        builtin_prompts=prepared.builtin_prompts,
        bare=prepared.bare,
        keep_unknown=prepared.keep_unknown,
        cache=packed.enabled_tokenizers(),
    )
