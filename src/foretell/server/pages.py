"""The two pages for people: what is served here, and the routes to read and to try. No library, no other host."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import orjson

from foretell.engine.instance import Hello
from foretell.server.openapi import example_instances, quoted
from foretell.signature import Field, TensorSpec

__all__ = ["Shown", "docs_page", "start_page"]

_LONGEST_BODY = 6000
_MOST_VALUES = 8
_GIVES = {"regression": "a number", "ranking": "a score"}
_STYLE = """<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2b2b}
pre,textarea{background:#f2f6f6;padding:.8rem;font:13px/1.4 ui-monospace,monospace;width:100%;margin:.5rem 0;
box-sizing:border-box;border:1px solid #cfdcdc;border-radius:4px;white-space:pre-wrap;overflow-wrap:anywhere}
canvas{max-width:100%;height:auto}pre{max-height:24rem;overflow:auto}pre:empty{display:none}textarea{height:12rem}a{color:#00696b}
h2{margin-top:2rem}h3{margin:1.2rem 0 .3rem}button{padding:.3rem 1rem}code{background:#f2f6f6}
summary{cursor:pointer;padding:.1rem 0}.m{display:inline-block;min-width:3.5rem;font-weight:600}
details>*:not(summary){margin-left:1rem;width:calc(100% - 1rem)}details>button{width:auto}
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #dfe8e8;
vertical-align:top}.bad{color:#a01c1c}</style>"""


class Shown(NamedTuple):
    """A version of a model, as the start page shows it."""

    name: str
    version: str
    state: str
    trouble: str
    """Why it does not answer; empty where it does."""
    hello: Hello | None
    """What it takes and gives; None where it does not answer."""


def start_page(models: Sequence[Shown], base: str, *, needs_key: bool) -> bytes:
    """Return the page of what is served: each model, its state, what it takes, and a command that asks it.

    Args:
        models: Every version known.
        base: URL of this server, as whoever asks calls it; it is not trusted.
        needs_key: Whether a command must send one.
    """
    from foretell import __version__

    links = {
        "/docs": "Try the models", "/v1/models": "States", "/v2/models/stats": "Statistics", "/metrics": "Metrics",
        "/v2/health/ready": "Health", "/openapi.json": "OpenAPI",
    }  # fmt: skip
    told = " &middot; ".join(f"<a href='{path}'>{text}</a>" for path, text in links.items())
    parts = [_head("Foretell"), f"<h1>Foretell {escape(__version__)}</h1><p>{told}</p>"]
    if not models:
        parts.append("<p>No model is known here yet.</p>")
        return "".join(parts).encode()
    parts.append("<table><tr><th>model<th>version<th>state<th>task</tr>")
    parts += [_listed(shown) for shown in models]
    parts.append("</table>")
    parts += [_model(s.name, s.hello, base, needs_key) for s in models if s.hello is not None]
    return "".join(parts).encode()


def _listed(shown: Shown) -> str:
    name = escape(shown.name)
    linked = name if shown.hello is None else f"<a href='#{quoted(shown.name)}'>{name}</a>"
    trouble = f"<br><span class='bad'>{escape(shown.trouble)}</span>" if shown.trouble else ""
    task = escape(shown.hello.task.name) if shown.hello is not None else ""
    return f"<tr><td>{linked}<td>{escape(shown.version)}<td>{escape(shown.state)}{trouble}<td>{task}</tr>"


def _model(name: str, hello: Hello, base: str, needs_key: bool) -> str:
    signature = hello.signature
    takes = signature.fields or signature.inputs
    rows = [_field(f) if isinstance(f, Field) else _tensor(f) for f in takes]
    what = "column" if signature.fields else "tensor"
    gives = f"one of {_some(hello.task.classes)}" if hello.task.classes else _GIVES.get(hello.task.name, "tensors")
    taken = f"{len(takes)} {what}{'' if len(takes) == 1 else 's'}"
    if hello.pictures is not None:
        taken, rows = "a picture", [*map(_tensor, hello.pictures.inputs), *rows]
    if hello.task.name == "detection":
        gives = f"objects, each {gives}, and where they are"
    command = _command(name, hello, base, needs_key)
    return (
        f"<h2 id='{quoted(name)}'>{escape(name)}</h2><p>Gives {gives}, from {taken}.</p><pre>{escape(command)}</pre>"
        f"<details><summary>What it takes</summary><table>{''.join(rows)}</table></details>"
    )


def _field(field: Field) -> str:
    told = ""
    if field.categories:
        told = ("one of " if field.closed else "such as ") + _some(field.categories)
    elif field.low is not None and field.high is not None and field.kind in ("number", "integer"):
        told = f"{field.low:g} to {field.high:g} in training"
    missing = "may be missing" if field.nullable else ""
    return f"<tr><td>{escape(field.name)}<td>{field.kind}<td>{told}<td>{missing}</tr>"


def _tensor(spec: TensorSpec) -> str:
    shape = ", ".join("any" if size < 0 else str(size) for size in spec.shape)
    return f"<tr><td>{escape(spec.name)}<td>{spec.datatype}<td>({shape})</tr>"


def _some(values: Sequence[object]) -> str:
    shown = ", ".join(escape(str(value)) for value in values[:_MOST_VALUES])
    return shown + (f" and {len(values) - _MOST_VALUES:,} more" if len(values) > _MOST_VALUES else "")


def _command(name: str, hello: Hello, base: str, needs_key: bool) -> str:
    """Return a command for a shell that asks a model."""
    key = '  -H "authorization: Bearer $KEY" \\\n' if needs_key else ""
    url = _shell_quoted(f"{base}/v1/models/{quoted(name)}:predict")
    if hello.pictures is not None:
        return f"curl {url} \\\n{key}  -H 'content-type: image/jpeg' \\\n  --data-binary @picture.jpg"
    body = orjson.dumps({"instances": example_instances(hello.signature)}).decode()
    data = _shell_quoted(body) if len(body) <= _LONGEST_BODY else "@rows.json"
    return f"curl {url} \\\n{key}  -H 'content-type: application/json' \\\n  -d {data}"


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def docs_page() -> bytes:
    """Return the page that shows `/openapi.json` and sends what is typed into it."""
    return (_head("Foretell: routes") + "<p><a href='/'>Start</a></p><h1>Routes</h1><p>Open one, change what is sent, "
            "send it. The rows are examples drawn in the ranges of training.</p><div id='routes'>Loading</div>"
            + _SCRIPT).encode()  # fmt: skip


def _head(title: str) -> str:
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{title}</title>{_STYLE}"
    )


_SCRIPT = """<script>
const root = document.getElementById('routes')
function add(parent, kind, text, name) {
  const found = document.createElement(kind)
  if (text !== undefined) found.textContent = text
  if (name) found.className = name
  parent.append(found)
  return found
}
function quoted(text) { return "'" + text.replaceAll("'", "'\\\\''") + "'" }
function command(path, method, body) {
  const url = quoted(location.origin + path)
  if (method == 'get') return 'curl ' + url
  if (body === undefined) return 'curl -X POST ' + url
  let said = body
  try { said = JSON.stringify(JSON.parse(body)) } catch {}
  return 'curl ' + url + " \\\\\\n  -H 'content-type: application/json' \\\\\\n  -d " + quoted(said)
}
function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 1) } catch { return text }
}
function show(group, path, method, told) {
  const box = add(group, 'details'), line = add(box, 'summary')
  add(line, 'span', method.toUpperCase(), 'm')
  add(line, 'code', path)
  add(line, 'span', ' ' + told.summary)
  const content = told.requestBody && told.requestBody.content['application/json']
  const typed = content && add(box, 'textarea')
  if (typed) typed.value = JSON.stringify(content.example || {}, null, 1)
  const button = add(box, 'button', 'Send'), answer = add(box, 'pre', '')
  const hidden = add(box, 'details')
  add(hidden, 'summary', 'As a command')
  const shell = add(hidden, 'pre')
  const say = () => { shell.textContent = command(path, method, typed ? typed.value : undefined) }
  if (typed) { typed.setAttribute('aria-label', 'body'); typed.oninput = say }
  say()
  button.onclick = async () => {
    const options = typed ? {method, body: typed.value, headers: {'content-type': 'application/json'}} : {method}
    answer.textContent = 'Sent'
    try {
      const reply = await fetch(path, options), timing = reply.headers.get('server-timing')
      answer.textContent = reply.status + (timing ? '   ' + timing : '') + '\\n' + pretty(await reply.text())
    } catch (error) { answer.textContent = 'No answer: ' + error.message }
  }
  if (told.requestBody && told.requestBody.content['image/jpeg']) look(box, path)
  if (content) {
    const schema = add(box, 'details')
    add(schema, 'summary', 'Types')
    add(schema, 'pre', JSON.stringify(content.schema, null, 1))
  }
}
function look(box, path) {
  const line = add(box, 'p', 'Or a picture: '), file = add(line, 'input'), canvas = add(box, 'canvas')
  const answer = add(box, 'pre', '')
  file.type = 'file'
  file.accept = 'image/*'
  file.setAttribute('aria-label', 'picture')
  canvas.hidden = true
  box.ondragover = event => event.preventDefault()
  box.ondrop = event => { event.preventDefault(); ask(event.dataTransfer.files[0]) }
  file.onchange = () => ask(file.files[0])
  async function ask(picture) {
    if (!picture) return
    answer.textContent = 'Sent'
    try {
      const headers = {'content-type': picture.type || 'image/jpeg'}
      const reply = await fetch(path, {method: 'POST', body: picture, headers}), text = await reply.text()
      answer.textContent = reply.status + '\\n' + pretty(text)
      await draw(canvas, picture, reply.ok ? JSON.parse(text).predictions[0] : [])
    } catch (error) { answer.textContent = 'No answer: ' + error.message }
  }
}
async function draw(canvas, picture, found) {
  const image = await createImageBitmap(picture), pen = canvas.getContext('2d'), width = image.width / 400
  canvas.hidden = false
  canvas.width = image.width
  canvas.height = image.height
  pen.drawImage(image, 0, 0)
  pen.lineWidth = width
  pen.font = 7 * width + 'px sans-serif'
  pen.strokeStyle = pen.fillStyle = '#e0004d'
  for (const {label, score, box: [left, top, right, bottom]} of Array.isArray(found) ? found : []) {
    pen.strokeRect(left, top, right - left, bottom - top)
    pen.fillText(label + ' ' + score.toFixed(2), left + width, Math.max(top - width, 7 * width))
  }
}
const rank = path => path.endsWith(':predict') ? 0 : path.endsWith('/infer') ? 1 : 2
fetch('/openapi.json').then(reply => reply.json()).then(told => {
  root.textContent = ''
  const groups = new Map()
  for (const [path, methods] of Object.entries(told.paths)) for (const method in methods) {
    const name = methods[method].tags ? methods[method].tags[0] : ''
    groups.set(name, [...(groups.get(name) || []), [path, method, methods[method]]])
  }
  const server = groups.get('') || []
  groups.delete('')
  for (const [name, routes] of groups) {
    add(root, 'h2', name)
    routes.sort((a, b) => rank(a[0]) - rank(b[0]))
    routes.forEach((route, at) => { show(root, ...route); if (!at) root.lastChild.open = groups.size == 1 })
  }
  add(root, 'h2', 'The server')
  for (const route of server) show(root, ...route)
}).catch(error => { root.textContent = '/openapi.json cannot be read: ' + error.message })
</script>"""
