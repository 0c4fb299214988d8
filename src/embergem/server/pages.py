"""`/openapi.json`, and `/docs`: the same for people, one page without scripts and without anything from elsewhere."""

import json
from functools import cache
from html import escape
from typing import Any

import msgspec
from starlette.responses import HTMLResponse, Response

from embergem.server.call import Call

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { padding: .75rem; overflow-x: auto; border: 1px solid #8886; border-radius: 6px; }
section { border-top: 1px solid #8886; margin-top: 2rem; }
h2 b { font-weight: 600; border-radius: 4px; padding: .1rem .4rem; background: #d9480f; color: #fff; font-size: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8884; }
"""


@cache
def described() -> dict[str, Any]:
    """The OpenAPI document of all operations."""
    from embergem.server.openapi import openapi
    from embergem.server.operations import OPERATIONS  # which has this page in it, too

    return openapi(OPERATIONS)


async def document(call: Call) -> Response:
    """Describe this API as an OpenAPI 3.1 document."""
    return Response(msgspec.json.encode(described()), media_type="application/json")


async def page(call: Call) -> Response:
    """Describe this API for people."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return HTMLResponse(render(described()), headers={"content-security-policy": policy})


def render(api: dict[str, Any]) -> str:
    """The document as a page."""
    info, schemas = api["info"], api["components"]["schemas"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_text(info['summary'])}</p>"]
    parts.append('<p>The document behind this page: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<section><h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>")
            parts.append(f"<p>{_text(operation['summary'])} {_text(operation.get('description', ''))}</p>")
            if "requestBody" in operation:
                parts.append("<h3>Body</h3>" + _fields(_schema(operation["requestBody"], schemas)))
            for status, answer in operation["responses"].items():
                parts.append(f"<h3>{status} {escape(answer['description'])}</h3>")
                if status == "200" and (schema := _schema(answer, schemas)).get("properties"):
                    parts.append(_fields(schema))
            parts.append("</section>")
    parts.append("<section><h2>Structures</h2>")
    for name, schema in schemas.items():
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{_text(schema.get("description", ""))}</p>')
        parts.append(_fields(schema))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>embergem</title><style>{STYLE}</style><body>{body}</section></body></html>"
    )


def _schema(holder: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = next(iter(holder["content"].values()))["schema"]
    name = schema.get("$ref", "").rpartition("/")[2]
    return schemas[name] if name else schema


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        f"<tr><td><code>{escape(name)}</code>{' *' if name in required else ''}</td><td>{_kind(field)}</td>"
        f"<td>{_text(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    ]
    return f"<table><tr><th>field</th><th>type</th><th></th></tr>{''.join(rows)}</table>"


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return ", or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of ({_kind(schema.get('items', {}))})"
    default = f" = {escape(json.dumps(schema['default']))}" if schema.get("default") is not None else ""
    return escape(str(schema.get("type", "anything"))) + default


def _text(text: str) -> str:
    """Escape, and set `code` as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
