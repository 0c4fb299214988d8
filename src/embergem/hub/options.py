"""`HubOptions`: the revision, cache directory and access token that a request to the Hugging Face hub uses."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from embergem.checkpoint.checkpoint import Location
from embergem.errors import UnsupportedOption
from embergem.options import DEFAULT_TOKEN_SOURCE, LoadOptions


@dataclass(frozen=True, slots=True)
class HubOptions:
    """The part of `LoadOptions` that concerns the hub, with the cache directory as an absolute path.

    A model and the donor of its dense layers have one each: a revision applies to the model only.

    Attributes:
        revision: Branch, tag or commit; None is the default branch.
        cache: Cache directory that replaces the one of `huggingface_hub`; None keeps that one.
        token_source: "cache", "none", "literal:TOKEN", "env:VARIABLE" or "path:FILE".
    """

    revision: str | None = None
    cache: Path | None = None
    token_source: str = field(default=DEFAULT_TOKEN_SOURCE, repr=False)  # may contain the token

    @classmethod
    def of(cls, options: LoadOptions) -> "HubOptions":
        """Take the hub's part out of the options of a load."""
        path = options.hf_cache_path
        cache = None if path is None else Path(path).expanduser().absolute()
        return cls(options.revision, cache, options.token_source or DEFAULT_TOKEN_SOURCE)

    @property
    def plain(self) -> bool:
        """Whether these options select the default branch and the default cache of `huggingface_hub`."""
        return self.revision is None and self.cache is None

    def require_none(self, found: Location) -> None:
        """Refuse a revision or a cache directory for files that do not come from the hub.

        Raises:
            UnsupportedOption: One is set; the message names it.
        """
        for name, value in (("revision", self.revision), ("hf_cache_path", self.cache)):
            if value is not None:
                raise UnsupportedOption(
                    f"{name}={str(value)!r} applies to models of the hub, and {found.path} is a local path. "
                    f"Leave {name} out, or name the model by its hub id.",
                    param=name,
                )

    def token(self) -> str | bool | None:
        """Return the access token in the form that `huggingface_hub` takes.

        None lets that library choose the token; False sends no token.

        Raises:
            UnsupportedOption: The environment variable is not set, or the file cannot be read.
        """
        kind, _, value = self.token_source.partition(":")
        if kind == "cache":
            return None
        if kind == "env":
            name, value = value, os.environ.get(value, "")
            if not value.strip():
                raise UnsupportedOption(
                    f"token_source names the environment variable {name}, which is not set. Set it, or choose another "
                    "token_source.",
                    param="token_source",
                )
        elif kind == "path":
            value = _read(Path(value).expanduser())
        return value.strip() or False

    def describe_token(self) -> str:
        """Say where the access token comes from, without the token."""
        kind, _, value = self.token_source.partition(":")
        if kind == "cache":
            return "from HF_TOKEN" if os.environ.get("HF_TOKEN") else "from `hf auth login`"
        return {"env": f"from the variable {value}", "path": f"from the file {value}"}.get(
            kind, "given as token_source"
        )


def revised(model: str, revision: str | None) -> str:
    """Return the name of a model at a revision that the caller named. Two revisions are two models.

    >>> revised("org/name", "v1.0"), revised("org/name", None)
    ('org/name@v1.0', 'org/name')
    """
    return model if revision is None else f"{model}@{revision}"


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UnsupportedOption(f"The token file {file} cannot be read: {reason}.", param="token_source") from None
