"""A Ray cluster of two node processes on this machine, with a token and a home directory of its own.

Nothing is collected outside the environment of `make test-ray`.
"""

import os
import tempfile
from importlib.util import find_spec

import pytest
from ray_nodes import TwoNodes, use_token

collect_ignore_glob = [] if find_spec("ray") else ["*"]

HOME = tempfile.TemporaryDirectory(prefix="embergem-ray-tests-")
"""Directory of the token, and home directory of the nodes."""

use_token(HOME.name)


@pytest.fixture(autouse=True)
def environment():
    """Restores the environment after each test: Ray sets variables of its own in the process that connects to it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def nodes(tmp_path_factory):
    started = TwoNodes(tmp_path_factory.mktemp("ray"), HOME.name)
    try:
        started.add_second()
        yield started
    finally:
        for name in list(started.nodes):
            started.kill(name)
