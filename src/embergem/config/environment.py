"""Read the settings in environment variables, and refuse every other variable that begins with `EMBERGEM_`.

A name that nobody reads is a mistake (`EMBERGEM_STRCIT`), and ignoring it would start a server without the setting.
"""

import re
from collections.abc import Mapping

from embergem.errors import InvalidConfig
from embergem.suggestions import did_you_mean

PREFIX = "EMBERGEM_"

VARIABLES = {
    "EMBERGEM_API_KEY": "API key that clients send",
    "EMBERGEM_ASSETS": "directory of the assets of embergem's own tests",
    "EMBERGEM_CACHE": "cache directory",
    "EMBERGEM_PACKED_LIMIT": "most bytes of packed weights in the cache directory",
}
"""Variables of the library that are no settings of a server."""

_SERVICE_LINK = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


def read_environment(environ: Mapping[str, str], settings: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the values of the settings that the environment has, and notes for the operator.

    Kubernetes sets variables in every container for each Service of the namespace (service links). Those of Services
    called `embergem` or `embergem-*` begin like settings; they are ignored with a note.

    Args:
        environ: Environment variables.
        settings: Names of the settings.

    Raises:
        InvalidConfig: A variable is unknown or empty.

    >>> read_environment({"EMBERGEM_PORT": "8080", "HOME": "/root"}, ("port",))
    ({'port': '8080'}, ())
    """
    values: dict[str, str] = {}
    links: list[str] = []
    by_variable = {PREFIX + name.upper(): name for name in settings}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        rest = variable.removeprefix(PREFIX)
        if not value.strip():
            raise InvalidConfig(
                f"{variable} is empty. Unset it, or give it a value. Compose files and scripts set it to nothing if "
                "its source is not set."
            )
        if _SERVICE_LINK.fullmatch(rest) or (rest.endswith("PORT") and _SERVICE_ADDRESS.match(value)):
            links.append(variable)
        elif variable in by_variable:
            values[by_variable[variable]] = value
        elif variable not in VARIABLES:
            known = [*by_variable, *VARIABLES]
            raise InvalidConfig(
                f"{variable} is neither a setting nor a variable of embergem.{did_you_mean(variable, known)} Unset it, "
                "or correct its name; docs/operations.md lists the settings."
            )
    if not links:
        return values, ()
    return values, (
        f"Ignored {', '.join(links)}: Kubernetes sets them for the Services of the namespace. To keep them out, set "
        "enableServiceLinks: false in the pod's specification.",
    )
