"""The HTML page of `/docs`. It shows the OpenAPI document, has no scripts, and loads nothing from other servers."""

import json
from html import escape
from typing import Any

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


def docs_html(api: dict[str, Any]) -> str:
    """Return an OpenAPI document as an HTML page."""
    info, schemas = api["info"], api["components"]["schemas"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_text(info['summary'])}</p>"]
    parts.append('<p>The OpenAPI document: <a href="openapi.json">openapi.json</a></p>')
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
    """Escape a text, and mark up its `code`."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
