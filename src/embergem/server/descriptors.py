"""File descriptors: each connection takes one, and what the process is allowed may be less than the server is."""

import logging
import sys

log = logging.getLogger("embergem.server")

OTHERS = 256
"""Descriptors for all but connections of clients: models, logs, connections to upstream servers."""


def allow_connections(connections: int) -> None:
    """Raise the process's limit of open files as far as `connections` need it; log where that is not far enough."""
    if sys.platform == "win32":
        return  # there is no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError) as error:  # some systems have a limit below the hard one
        log.warning("the limit of open files stays at %d: %s", soft, error)
        allowed = soft
    if allowed < needed:
        log.warning(
            "max_connections is %d and this process may open %d files; beyond them connections wait unanswered. "
            "Raise the hard limit (`ulimit -Hn`, LimitNOFILE= in a systemd unit) to %d, or lower max_connections",
            connections, allowed, needed,
        )  # fmt: skip
