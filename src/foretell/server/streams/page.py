"""The page that shows what a model sees through this computer's camera. No library, no other host."""

from __future__ import annotations

from html import escape

__all__ = ["PAGE_HEADERS", "camera_page"]

PAGE_HEADERS = (
    b"x-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n"
    b"permissions-policy: camera=(self)\r\ncontent-security-policy: default-src 'none'; style-src 'unsafe-inline'; "
    b"script-src 'unsafe-inline'; connect-src 'self'\r\n"
)
_STYLE = """<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2b2b}
canvas{width:100%;background:#f2f6f6;border:1px solid #cfdcdc;border-radius:4px}a{color:#00696b}
#told{font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap}
</style>"""
_SCRIPT = """<script>
const told = document.getElementById('told'), shown = document.getElementById('shown'), pen = shown.getContext('2d')
const video = document.createElement('video'), hidden = document.createElement('canvas')
const path = location.pathname.replace(/:camera$/, ':stream') + '?mode=latest&track=' + document.body.dataset.track
const count = {sent: 0, answered: 0, dropped: 0, stale: 0, failed: 0}, sent = new Map()
let socket, last = null, busy = false, ages = [], began = 0
const say = text => { told.textContent = text }
const colour = n => `hsl(${(n || 0) * 67 % 360} 80% 45%)`
function box(found) {
  const [x, y, right, low] = found.box, number = found.track ? found.track + ' ' : ''
  const text = number + found.label + ' ' + found.score.toFixed(2)
  pen.strokeStyle = pen.fillStyle = colour(found.track)
  pen.strokeRect(x, y, right - x, low - y)
  const width = pen.measureText(text).width + 8, top = Math.max(0, y - 20)
  pen.fillRect(x, top, width, 20)
  pen.fillStyle = '#fff'
  pen.fillText(text, x + 4, top + 15)
}
function draw() {
  pen.drawImage(video, 0, 0)
  pen.font = '14px system-ui'
  pen.lineWidth = 2
  const found = last && last.predictions[0]
  if (Array.isArray(found)) found.forEach(box)
  else if (found) {
    pen.fillStyle = '#00696b'
    pen.font = '24px system-ui'
    pen.fillText(found.label + ' ' + (found.probability ?? 0).toFixed(2), 12, 32)
  }
}
function frame() {
  video.requestVideoFrameCallback(frame)
  draw()
  if (busy || socket.readyState != 1 || socket.bufferedAmount) return
  busy = true
  const taken = performance.now()
  hidden.getContext('2d').drawImage(video, 0, 0)
  hidden.toBlob(blob => {
    busy = false
    if (!blob || socket.readyState != 1) return
    sent.set(count.sent++, taken)
    sent.delete(count.sent - 1000)
    socket.send(blob)
  }, 'image/jpeg', 0.85)
}
function heard(event) {
  const answer = JSON.parse(event.data), now = performance.now()
  count.dropped += answer.dropped || 0
  if (answer.error) { count.failed++; say(answer.error) }
  else if (answer.stale) count.stale++
  else {
    last = answer
    count.answered++
    ages.push([now, now - sent.get(answer.frame)])
  }
  ages = ages.filter(([at]) => at > now - 2000)
  const sorted = ages.map(([, age]) => age).sort((a, b) => a - b)
  const rate = ages.length / Math.min(2, (now - began) / 1000)
  if (sorted.length && !answer.error) say(`${rate.toFixed(1)} answers/s, from the camera to here ` +
    `${sorted[sorted.length >> 1].toFixed(0)} ms, in the model ${last.run_ms.toFixed(0)} ms\\n${JSON.stringify(count)}`)
}
async function start() {
  video.srcObject = await navigator.mediaDevices.getUserMedia({video: {width: {ideal: 640}}})
  video.muted = video.playsInline = true
  await video.play()
  shown.width = hidden.width = video.videoWidth
  shown.height = hidden.height = video.videoHeight
  socket = new WebSocket(location.origin.replace(/^http/, 'ws') + path)
  socket.onmessage = heard
  socket.onclose = event => say('The stream has ended: ' + event.code + ' ' + event.reason)
  socket.onopen = () => { began = performance.now(); video.requestVideoFrameCallback(frame) }
}
start().catch(error => say('No camera: ' + error.message))
</script>"""


def camera_page(name: str, *, finds_objects: bool) -> bytes:
    """Return the page.

    Args:
        name: Of the model.
        finds_objects: Whether it finds objects, which are numbered then.
    """
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Foretell: {escape(name)}</title>{_STYLE}<body data-track='{int(finds_objects)}'>"
        f"<p><a href='/'>Start</a></p><h1>{escape(name)}</h1><canvas id='shown'></canvas>"
        f"<p id='told'>Asking for the camera</p>{_SCRIPT}"
    ).encode()
