"""Validated settings: from a file, the environment and flags."""

from embergem.config.models import EmbeddingEntry, Entry, UpstreamEntry
from embergem.config.read import Config, read, read_keys
from embergem.config.settings import Key, Settings

__all__ = ["Config", "EmbeddingEntry", "Entry", "Key", "Settings", "UpstreamEntry", "read", "read_keys"]
