"""The OpenAPI description as one plain page: no script, and nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; font: 15px/1.5 system-ui, sans-serif; }
h1, h2 { font-weight: 500; }
h2 { margin-top: 2.4rem; }
code, h3 { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .95em; }
h3 { margin: 1.8rem 0 .2rem; font-weight: 600; }
p { margin: .3rem 0; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td { padding: .2rem 1rem .2rem 0; border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
td { vertical-align: top; }
td:first-child { white-space: nowrap; }
td:nth-child(2) { opacity: .75; }
:target { background: color-mix(in srgb, #ffb84d 22%, transparent); }
"""


def page(told: Mapping[str, Any]) -> str:
    """HTML of what `/openapi.json` tells: routes, and below them every kind of object with its fields."""
    about = told["info"]
    routes = [
        line for path, verbs in told["paths"].items() for verb, one in verbs.items() for line in _route(verb, path, one)
    ]
    kinds = [line for name, one in sorted(told["components"]["schemas"].items()) for line in _kind(name, one)]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{_text(about['title'])}</title><style>{_STYLE}</style>"
    said = f"<h1>{_text(about['title'])} {_text(about['version'])}</h1><p>{_text(about['description'])}</p>"
    said += '<p>For programs: <a href="openapi.json">openapi.json</a>.</p><h2>Routes</h2>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>' + "\n".join(
        [said, *routes, "<h2>Objects</h2>", *kinds, "</body></html>"]
    )


def _route(verb: str, path: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3>{verb.upper()} {_text(path)}</h3><p>{_text(one.get('description', ''))}</p>"
    asked = [_type(body["schema"]) for body in one.get("requestBody", {}).get("content", {}).values()]
    answered = one["responses"].get("200", {}).get("content", {})
    told = [_type(body["schema"]) for body in answered.values() if body.get("schema")]
    yield "<p>" + " → ".join(" or ".join(some) for some in (asked, told) if some) + "</p>"


def _kind(name: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{_text(name)}">{_text(name)}</h3><p>{_text(one.get("description", ""))}</p><table>'
    for field, about in one.get("properties", {}).items():
        needed = "needed" if field in one.get("required", ()) else ""
        default = "" if about.get("default") is None else f"{about['default']!r} if not given"
        said = "; ".join(filter(None, (about.get("description"), needed, default)))
        yield f"<tr><td><code>{_text(field)}</code></td><td>{_type(about)}</td><td>{_text(said)}</td></tr>"
    yield "</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """In words; other objects by a link to them."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if several := schema.get("anyOf"):
        return " or ".join(map(_type, several))
    if "const" in schema or "enum" in schema:
        return " or ".join(_text(repr(value)) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return _text(schema.get("format") or schema.get("type") or "anything")


def _text(words: Any) -> str:
    return escape(str(words))
