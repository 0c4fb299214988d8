"""The application of Ray Serve: `serve run embergem.ray.app:build model=minilm`.

Each replica loads the models and answers the HTTP API of `embergem serve`.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from embergem.config import named_entry, read_config
from embergem.errors import InvalidConfig
from embergem.options import LoadOptions
from embergem.suggestions import did_you_mean

SCALING = {
    "num_cpus": 1,
    "min_replicas": 1,
    "max_replicas": 1,
    "target_ongoing_requests": 8,
    "max_ongoing_requests": 100,
}
"""Arguments of `build` about replicas, with their defaults."""

ARGUMENTS = ("model", "config", "dtype", "threads", *SCALING)
"""All arguments of `build`."""


def build(arguments: Mapping[str, Any]) -> Any:
    """Build the application.

    Args:
        arguments: `model`: names with commas between them, as `embergem serve --model` takes them. `config`: the
            configuration file of the server, as `embergem serve --config`; it is read here and not in the replicas, and
            its settings about sockets have no effect. Without both, the default model is served. `dtype`, `threads`:
            as for `embergem serve`. `num_cpus`: CPUs that Ray reserves for a replica. `min_replicas`, `max_replicas`,
            `target_ongoing_requests`: how Ray Serve scales the replicas. `max_ongoing_requests`: requests that a
            replica takes at a time; further ones wait in the proxy of Ray Serve. Limits of API keys hold in each
            replica.

    Returns:
        The application for `ray.serve.run`.

    Raises:
        InvalidConfig: An argument is unknown or has an invalid value, or the configuration has a directory for batches.
    """
    from ray import serve

    for name in arguments:
        if name not in ARGUMENTS:
            raise InvalidConfig(
                f"The application has no argument {name!r}.{did_you_mean(name, ARGUMENTS)} It has: "
                f"{', '.join(ARGUMENTS)}."
            )
    scaling = {name: _whole_number(name, arguments.get(name, default)) for name, default in SCALING.items()}
    if scaling["max_replicas"] < scaling["min_replicas"]:
        raise InvalidConfig(
            f"max_replicas={scaling['max_replicas']} is below min_replicas={scaling['min_replicas']}. Give as many or "
            "more."
        )
    config = arguments.get("config")
    threads = None if arguments.get("threads") is None else _whole_number("threads", arguments["threads"])
    flags = {"dtype": arguments.get("dtype"), "threads": threads}
    whole = read_config(None if config is None else Path(config), os.environ, flags)
    default = LoadOptions(dtype=arguments.get("dtype"), threads=threads)
    names = str(arguments["model"]).split(",") if arguments.get("model") is not None else []
    chosen = [replace(default, model=name) for name in names] or ([] if whole.models else [default])
    entries = (*map(named_entry, chosen), *whole.models)
    settings, keys = whole.settings, tuple(whole.keys)
    if settings.batch_path is not None:
        raise InvalidConfig(
            f"batch_path is {settings.batch_path!r}, and the replicas of Ray Serve keep no files and batches. Remove "
            "the setting; `embergem serve` has them."
        )

    def make_app() -> Any:
        """Load the models and return the ASGI application; each replica calls it."""
        from embergem.server.app import build_app
        from embergem.server.build import build_state

        state = build_state(settings, entries, keys)
        state.registry.start()
        return build_app(state)

    @serve.ingress(make_app)
    class EmbeddingServer:
        """A replica."""

    return serve.deployment(
        EmbeddingServer,
        name="embergem",
        ray_actor_options={"num_cpus": scaling["num_cpus"]},
        max_ongoing_requests=scaling["max_ongoing_requests"],
        autoscaling_config={
            name: scaling[name] for name in ("min_replicas", "max_replicas", "target_ongoing_requests")
        },
    ).bind()


def _whole_number(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise InvalidConfig(f"{name}={value} is not possible. Give a whole number from 1.")
    return number
