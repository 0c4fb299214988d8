"""Connects to a Ray cluster, or starts one on this machine, and compares the nodes before a job begins."""

import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from embergem.errors import JobError, UnsupportedOption
from embergem.ray.shipment import Identity, Shipment

LOCAL = "local"
"""Address that starts a cluster of this machine alone, for the time of the job."""

AUTO = "auto"
"""Address of the cluster that runs on this machine, or that RAY_ADDRESS names."""

ANY = "any"
"""Address of the cluster that runs on this machine, or that RAY_ADDRESS names; `LOCAL` if there is none."""

CONNECT_SECONDS = 10.0
"""Time in which the address of a cluster has to answer."""

NODE_SECONDS = 600.0
"""Time in which a node has to load the model."""


class Cluster:
    """A connection to a Ray cluster. Closing it ends what it started.

    Ray's usage statistics are turned off. Token authentication stays on: a cluster that is started here has a new token
    in a directory of its own, and a cluster that runs already has the token of its owner (RAY_AUTH_TOKEN_PATH).

    Args:
        address: "auto", "local", "any", or the HOST:PORT of a cluster. A program that has called `ray.init` keeps its
            connection.

    Raises:
        UnsupportedOption: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str) -> None:
        if address == ANY:
            address = running_cluster() or LOCAL
        if address not in (AUTO, LOCAL) and not re.fullmatch(r"(ray://)?[^\s/]+:\d+", address):
            raise UnsupportedOption(
                f"--ray {address} is no address. Give {AUTO}, {LOCAL}, or HOST:PORT. Without an address, put --ray "
                "after the texts.",
                param="ray",
            )
        if address not in (AUTO, LOCAL):
            _require_listener(address)
        self._directory: Path | None = None
        self._environment: dict[str, str | None] = {}
        self._own = False
        self._set("RAY_USAGE_STATS_ENABLED", "0")
        if address == LOCAL and "ray" not in sys.modules:
            self._use_own_token()  # Ray reads these variables when it is imported
        try:
            import ray
        except ImportError as error:
            self.close()
            raise UnsupportedOption(
                f"--ray needs the package {error.name}. Install it: pip install 'embergem[ray]'", param="ray"
            ) from error
        if ray.is_initialized():
            return
        options: dict[str, Any] = {}
        if address == LOCAL:
            options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            if self._directory is not None:
                options["_temp_dir"] = str(self._directory / "ray")
        try:
            ray.init(address=address, logging_level="warning", **options)
            self._own = True
        except (ConnectionError, ValueError, RuntimeError) as error:
            self.close()
            raise UnsupportedOption(
                f"--ray {address}: no cluster answers: {_first_line(error)} Start one with `ray start --head`, give "
                f"its HOST:PORT, or use --ray {LOCAL} for this machine alone.",
                param="ray",
            ) from error

    def _use_own_token(self) -> None:
        """Write a token for the new cluster, unless the environment has one."""
        if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
            return
        self._directory = Path(tempfile.mkdtemp(prefix="embergem-ray-"))
        token = self._directory / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self._set("RAY_AUTH_MODE", "token")
        self._set("RAY_AUTH_TOKEN_PATH", str(token))

    def _set(self, name: str, value: str) -> None:
        """Set a variable of the environment until the connection is closed."""
        self._environment[name] = os.environ.get(name)
        os.environ[name] = value

    def close(self) -> None:
        """Leave the cluster; a cluster that was started here ends."""
        if self._own:
            import ray

            ray.shutdown()
            self._own = False
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def running_cluster() -> str | None:
    """Return the address of the cluster that RAY_ADDRESS names, or that runs on this machine; None if there is none.

    Ray writes the address of a cluster that `ray start --head` began into a file. Ray itself is not asked, because it
    reads the token of a cluster when it is imported.
    """
    if named := os.environ.get("RAY_ADDRESS"):
        return AUTO if named in (AUTO, LOCAL) else named
    usual = "/tmp" if sys.platform == "darwin" else tempfile.gettempdir()  # as Ray chooses it
    directory = Path(os.environ.get("RAY_TMPDIR", usual))
    try:
        address = (directory / "ray" / "ray_current_cluster").read_text().strip()
        _require_listener(address)
    except (OSError, ValueError, UnsupportedOption):  # there is no such file, or the cluster has ended
        return None
    return address


def on_node(node_id: str) -> Any:
    """Return the scheduling strategy that runs a task or an actor on this node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def this_node() -> str:
    """Return the id of the node of this process."""
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node


def examine(shipment: Shipment) -> Identity:
    """Load a model on a node, and return its identity there."""
    with shipment.load() as engine:
        return Identity.of(engine)


def require_same_nodes(shipment: Shipment) -> int:
    """Load the model on every node, and compare what the nodes would compute; return the number of nodes.

    Raises:
        JobError: A node cannot load the model, or would give other vectors than this machine.
    """
    import ray

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    remote = ray.remote(num_cpus=0, max_retries=0)(examine)
    running = {remote.options(scheduling_strategy=on_node(node)).remote(shipment): node for node in nodes}
    faults = []
    for result, node in running.items():
        name = f"node {nodes[node]} ({node[:8]})"
        try:
            reason = shipment.expected.difference(ray.get(result, timeout=NODE_SECONDS))
        except ray.exceptions.GetTimeoutError:
            reason = f"did not load the model within {NODE_SECONDS:g} s"
        except ray.exceptions.RayError as error:
            reason = f"cannot load the model: {_cause(error)}"
        if reason is not None:
            faults.append(f"{name}: {reason}")
    if faults:
        raise JobError(
            f"{len(faults)} of {len(nodes)} nodes of the Ray cluster would not give the same vectors. "
            f"{'; '.join(faults)}. Install the same embergem on all nodes and use processors of one kind, or take "
            "these nodes out of the cluster."
        )
    return len(nodes)


def _require_listener(address: str) -> None:
    """Refuse an address where nothing listens; Ray would try to connect for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UnsupportedOption(
            f"--ray {address}: nothing answers there: {error.strerror or error}. Start a cluster with `ray start "
            f"--head`, check the address, or use --ray {LOCAL} for this machine alone.",
            param="ray",
        ) from None


def _cause(error: Exception) -> str:
    cause = getattr(error, "cause", None)
    return _first_line(cause if isinstance(cause, Exception) else error)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
