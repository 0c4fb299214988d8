"""Collect nothing outside the environment of `make test-integrations`."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("langchain_core") else ["*"]
