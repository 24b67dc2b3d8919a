"""The two pages for people: what is served here, and the routes to read and to try. No library, no other host."""

from __future__ import annotations

from html import escape

import orjson

from foretell.server.openapi import Described, example_instances

__all__ = ["docs_page", "start_page"]

_STYLE = """<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2b2b}
pre,textarea{background:#f2f6f6;padding:.8rem;overflow:auto;font:13px/1.4 ui-monospace,monospace;width:100%;
box-sizing:border-box;border:1px solid #cfdcdc;border-radius:4px}
textarea{height:12rem}a{color:#00696b}h2{margin-top:2rem}button{padding:.3rem 1rem}code{background:#f2f6f6}
summary{cursor:pointer}.m{display:inline-block;min-width:3.5rem;font-weight:600}</style>"""


def start_page(models: list[Described]) -> bytes:
    """Return the page of what is served: each model, and a command that asks it."""
    parts = [_head("Foretell"), "<h1>Foretell</h1><p><a href='/docs'>Try the models</a> &middot; "
             "<a href='/metrics'>Metrics</a> &middot; <a href='/openapi.json'>OpenAPI</a></p>"]  # fmt: skip
    if not models:
        parts.append("<p>No model answers yet.</p>")
    for name, hello in models:
        body = orjson.dumps({"instances": example_instances(hello.signature)}).decode()
        shown = body if len(body) < 2000 else f"{body[:2000]} ..."
        parts.append(
            f"<h2>{escape(name)}</h2><p>{escape(hello.task.name)}, {len(hello.signature.fields)} fields</p>"
            f"<pre>POST /v1/models/{escape(name)}:predict\n\n{escape(shown)}</pre>"
        )
    return "".join(parts).encode()


def docs_page() -> bytes:
    """Return the page that shows `/openapi.json` and sends what is typed into it."""
    return (_head("Foretell: routes") + "<h1>Routes</h1><div id='routes'>Loading</div>" + _SCRIPT).encode()


def _head(title: str) -> str:
    return f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>{_STYLE}"


_SCRIPT = """<script>
const root = document.getElementById('routes')
function add(parent, kind, text) {
  const found = document.createElement(kind)
  if (text !== undefined) found.textContent = text
  parent.append(found)
  return found
}
function show(path, method, told) {
  const box = add(root, 'details'), line = add(box, 'summary')
  const verb = add(line, 'span', method.toUpperCase())
  verb.className = 'm'
  add(line, 'code', path)
  add(line, 'span', ' ' + told.summary)
  const content = told.requestBody && told.requestBody.content['application/json']
  const typed = content && add(box, 'textarea')
  if (typed) typed.value = JSON.stringify(content.example || {}, null, 1)
  const button = add(box, 'button', 'Send'), answer = add(box, 'pre', '')
  button.onclick = async () => {
    const options = typed ? {method, body: typed.value, headers: {'content-type': 'application/json'}} : {method}
    const reply = await fetch(path, options)
    answer.textContent = reply.status + ' ' + (reply.headers.get('server-timing') || '') + '\\n' + await reply.text()
  }
  if (content) {
    const schema = add(box, 'details')
    add(schema, 'summary', 'Types')
    add(schema, 'pre', JSON.stringify(content.schema, null, 1))
  }
}
fetch('/openapi.json').then(reply => reply.json()).then(document_ => {
  root.textContent = ''
  const paths = Object.entries(document_.paths)
  const rank = path => path.endsWith(':predict') ? 0 : path.endsWith('/infer') ? 1 : 2
  paths.sort((a, b) => rank(a[0]) - rank(b[0]))
  for (const [path, methods] of paths) for (const method in methods) show(path, method, methods[method])
})
</script>"""
