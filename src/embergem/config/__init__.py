"""The configuration of a server: settings, models and API keys, validated, from files, the environment and flags."""

from embergem.config.models import EmbeddingEntry, Entry, UpstreamEntry, named_entry
from embergem.config.read import Config, read_config, read_keys
from embergem.config.settings import Key, Settings

__all__ = [
    "Config",
    "EmbeddingEntry",
    "Entry",
    "Key",
    "Settings",
    "UpstreamEntry",
    "named_entry",
    "read_config",
    "read_keys",
]
