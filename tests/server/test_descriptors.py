"""The limit of open files follows the limit of connections."""

import pytest

from embergem.server.connections import OTHER_DESCRIPTORS, raise_descriptor_limit

resource = pytest.importorskip("resource", reason="this system has no limits of this kind")


@pytest.mark.parametrize(
    ("limits", "set_to", "words"),
    [
        ((1024, 1_000_000), (5000 + OTHER_DESCRIPTORS, 1_000_000), ""),
        ((1024, 2048), (2048, 2048), "may open only 2048 files"),
        ((1024, resource.RLIM_INFINITY), (5000 + OTHER_DESCRIPTORS, resource.RLIM_INFINITY), ""),
        ((100_000, 100_000), None, ""),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, ""),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_needed_and_allowed(monkeypatch, caplog, limits, set_to, words):
    done = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: done.append(given))
    raise_descriptor_limit(5000)
    assert done == ([set_to] if set_to else [])
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)


def test_a_refused_limit_is_logged(monkeypatch, caplog):
    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1_000_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_descriptor_limit(5000)
    assert "stays at 1024: not allowed" in caplog.text
    assert f"to {5000 + OTHER_DESCRIPTORS}, or lower max_connections" in caplog.text
