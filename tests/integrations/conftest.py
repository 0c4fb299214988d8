"""Needs the environment of `make test-integrations`; in any other there is nothing here to collect."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("langchain_core") else ["*"]
