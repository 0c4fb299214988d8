"""How the hub is asked for a model: which revision, through which cache, with whose token."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from embergem.checkpoint.checkpoint import Location
from embergem.errors import UnsupportedOption

CACHE = "cache"
"""Token source: HF_TOKEN, or else the file that the hub's own tools keep it in."""

_NONE = "none"
_KINDS = ("literal", "env", "path")


@dataclass(frozen=True, slots=True)
class HubOptions:
    """What `resolve` is told of the hub.

    `revision` is a branch, tag or commit; None is the default branch. `cache` takes the place of the hub library's own
    cache directory. `token_source` is "cache", "none", "literal:TOKEN", "env:VARIABLE" or "path:FILE".
    """

    revision: str | None = None
    cache: Path | None = None
    token_source: str = field(default=CACHE, repr=False)  # it may be the token itself

    @classmethod
    def of(cls, revision: str | None, hf_cache_path: str | Path | None, token_source: str | None) -> "HubOptions":
        """Check options as they were given.

        Raises:
            UnsupportedOption: A revision that is none, or an unknown kind of token source.
        """
        if revision is not None and (not revision.strip() or ".." in revision):
            raise UnsupportedOption(
                f"revision={revision!r} is no branch, tag or commit; leave it out for the default branch",
                param="revision",
            )
        cache = None if hf_cache_path is None else Path(hf_cache_path).expanduser().absolute()
        return cls(revision, cache, check_token_source(token_source or CACHE))

    @property
    def plain(self) -> bool:
        """Whether the model is the default branch's, by way of the hub library's own cache."""
        return self.revision is None and self.cache is None

    def require_none(self, found: Location) -> None:
        """Refuse a revision or a cache for files that the hub has nothing to do with.

        Raises:
            UnsupportedOption: Naming the option.
        """
        for name, value in (("revision", self.revision), ("hf_cache_path", self.cache)):
            if value is not None:
                raise UnsupportedOption(
                    f"{name}={str(value)!r} is for models of the hub, and {found.path} is on this machine: leave it "
                    "out, or name the model by its hub id",
                    param=name,
                )

    def token(self) -> str | bool | None:
        """Return the token as the hub's library takes it: None is its own choice, False sends none.

        Raises:
            UnsupportedOption: The variable is not set, or the file cannot be read.
        """
        kind, _, value = self.token_source.partition(":")
        if kind == CACHE:
            return None
        if kind == "env":
            name, value = value, os.environ.get(value, "")
            if not value.strip():
                raise UnsupportedOption(
                    f"the environment variable {name} of the token source is not set", param="token_source"
                )
        elif kind == "path":
            value = _read(Path(value).expanduser())
        return value.strip() or False


def revised(model: str, revision: str | None) -> str:
    """Return the name of a model at a revision that the caller named. Two revisions are two models.

    >>> revised("org/name", "v1.0"), revised("org/name", None)
    ('org/name@v1.0', 'org/name')
    """
    return model if revision is None else f"{model}@{revision}"


def check_token_source(source: str) -> str:
    """Return a token source if it is of a kind that there is.

    Raises:
        UnsupportedOption: It is not; the message doesn't show what may be a token.

    >>> check_token_source("env:HF_TOKEN")
    'env:HF_TOKEN'
    """
    kind, colon, value = source.partition(":")
    if source in (CACHE, _NONE) or (kind in _KINDS and colon and value.strip()):
        return source
    raise UnsupportedOption(
        f'a token source that begins with {kind[:7]!r} is none of: "cache" (HF_TOKEN, or what `hf auth login` has '
        'kept), "none", "literal:TOKEN", "env:VARIABLE", "path:FILE"',
        param="token_source",
    )


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UnsupportedOption(f"the token file {file} cannot be read: {reason}", param="token_source") from None
