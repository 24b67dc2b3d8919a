"""A camera before a server: frames go out on time, answers come back, and how old they are is printed.

    python examples/vision/fetch.py vision-out && python examples/vision/yolo.py vision-out
    foretell convert vision-out/yolo.onnx --picture vision-out/yolo.toml -o vision-out/yolo
    foretell serve vision-out/yolo --instances 1 &
    python examples/camera.py vision-out/bikes.mp4 --seconds 120

A video file is decoded and its frames are encoded as JPEG ahead of time, 1,000 at most; they are played at --fps, again
from the start where they end, so that the program costs next to nothing while it measures. With --live the source is
decoded and encoded as it plays, in a thread: for long files, rtsp:// addresses and devices (/dev/video0), whatever PyAV
opens. Like a camera it waits for nobody: a frame that cannot be sent on time is one the server never sees.

The age of an answer is counted here, from the instant at which a frame was due until its answer has been read. It needs
av, simplejpeg, numpy and websockets: pip install "foretell[serve,image,video]".
"""

import argparse
import asyncio
import json
import sys
import threading
import time

import av
import numpy as np
import simplejpeg
from websockets.asyncio.client import connect

AHEAD = 1000
WINDOW_S = 10.0
HEAD = "seconds  offered  answered  dropped  stale  failed     age ms p50     p99   inference p50     p99   objects"


class Tally:
    """What came back in one stretch of time."""

    def __init__(self):
        self.offered = self.unsent = self.dropped = self.stale = self.failed = self.objects = 0
        self.ages_ms, self.runs_ms = [], []

    def __iadd__(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def line(self, when):
        age, run = quantiles(self.ages_ms), quantiles(self.runs_ms)
        return (
            f"{when:>7}{self.offered:>9}{len(self.ages_ms):>10}{self.dropped:>9}{self.stale:>7}{self.failed:>8}"
            f"{age[0]:>15.1f}{age[1]:>8.1f}{run[0]:>16.1f}{run[1]:>8.1f}{self.objects:>10}"
        )


def quantiles(values):
    return np.percentile(values, (50, 99)) if values else (np.nan, np.nan)


def jpegs(source, quality):
    """Give the frames of a video as JPEG."""
    given = {"format": "v4l2"} if source.startswith("/dev/video") else {}
    with av.open(source, **given) as container:
        for frame in container.decode(video=0):
            yield simplejpeg.encode_jpeg(frame.to_ndarray(format="rgb24"), quality=quality, colorspace="RGB")


class Played:
    """Frames made ahead, at a rate."""

    def __init__(self, source, quality, fps):
        self.frames = [frame for frame, _ in zip(jpegs(source, quality), range(AHEAD), strict=False)]
        self.interval_s = 1.0 / fps
        sizes = [len(frame) / 1e3 for frame in self.frames]
        print(f"{source}: {len(sizes)} frames as JPEG of {np.mean(sizes):.1f} kB, played at {fps:g} a second")

    async def __aiter__(self):
        began, at = time.perf_counter(), 0
        while True:
            due = began + at * self.interval_s
            await asyncio.sleep(due - time.perf_counter())
            yield due, self.frames[at % len(self.frames)]
            at += 1


class Live:
    """Frames as they come, decoded and encoded in a thread; of those nobody has taken yet the newest is kept."""

    def __init__(self, source, quality, fps):
        self.source, self.quality, self.fps = source, quality, fps

    async def __aiter__(self):
        loop, there, newest = asyncio.get_running_loop(), asyncio.Event(), []

        def come(frame):
            newest[:] = [frame]
            there.set()

        def read():
            began = time.perf_counter()
            for at, jpeg in enumerate(jpegs(self.source, self.quality)):
                if self.fps:
                    time.sleep(max(0.0, began + at / self.fps - time.perf_counter()))
                loop.call_soon_threadsafe(come, (time.perf_counter(), jpeg))
            loop.call_soon_threadsafe(come, None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            await there.wait()
            there.clear()
            if newest[0] is None:
                return
            yield newest[0]


class Camera:
    """One stream."""

    def __init__(self, socket):
        self.socket = socket
        self.sent = {}
        self.tally, self.whole = Tally(), Tally()

    async def send(self, frames, ends):
        number, task = 0, None
        async for captured, jpeg in frames:
            if captured >= ends:
                break
            self.tally.offered += 1
            if task is not None and not task.done():
                self.tally.unsent += 1
                continue
            if task is not None:
                task.result()  # raises where the stream has ended
            self.sent[number] = captured
            number += 1
            task = asyncio.create_task(self.socket.send(jpeg))
            await asyncio.sleep(0)
        await asyncio.sleep(1.0)  # what is in flight
        await self.socket.close()

    async def read(self):
        async for message in self.socket:
            now, answer, tally = time.perf_counter(), json.loads(message), self.tally
            tally.dropped += answer["dropped"]
            if "error" in answer:
                tally.failed += 1
                print(f"frame {answer['frame']}: {answer['error']}", file=sys.stderr)
            elif "stale" in answer:
                tally.stale += 1
            else:
                tally.ages_ms.append((now - self.sent[answer["frame"]]) * 1e3)
                tally.runs_ms.append(answer["run_ms"])
                tally.objects += len(answer["predictions"][0])
            for number in [n for n in self.sent if n < answer["frame"] - 1000]:
                del self.sent[number]

    async def print(self, began):
        at = 1
        while True:
            await asyncio.sleep(began + at * WINDOW_S - time.perf_counter())
            self.close_window(f"{at * WINDOW_S:.0f}")
            at += 1

    def close_window(self, when):
        done, self.tally = self.tally, Tally()
        print(done.line(when), flush=True)
        self.whole += done


async def play(args):
    url = f"{args.url}?mode={args.mode}&track={int(args.track)}"
    headers = {"Authorization": f"Bearer {args.key}"} if args.key else {}
    frames = (Live if args.live else Played)(args.source, args.quality, args.fps)
    async with connect(url, compression=None, additional_headers=headers, max_queue=None) as socket:
        camera = Camera(socket)
        print(HEAD)
        began = time.perf_counter()
        printing = asyncio.create_task(camera.print(began))
        await asyncio.gather(camera.send(frames, began + args.seconds), camera.read())
        printing.cancel()
        if camera.tally.offered or camera.tally.ages_ms:
            camera.whole += camera.tally
    return camera.whole


def main():
    parser = argparse.ArgumentParser(
        description="Play a video as a camera before a server, and print how old answers are"
    )
    parser.add_argument("source", help="a video file, an address or a device")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/v1/models/yolo:stream", help="of the stream")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second; 0 with --live: as they come")
    parser.add_argument("--quality", type=int, default=85, help="of the JPEGs")
    parser.add_argument("--mode", choices=("latest", "every"), default="latest")
    parser.add_argument("--track", action="store_true", help="number the objects across frames")
    parser.add_argument("--live", action="store_true", help="decode and encode while it plays")
    parser.add_argument("--key", help="of the server, where it needs one")
    args = parser.parse_args()
    whole = asyncio.run(play(args))
    if not whole.ages_ms:
        print("no frame was answered")
        return 1
    print(whole.line("all"))
    beyond = quantiles(np.subtract(whole.ages_ms, whole.runs_ms).tolist())
    print(f"age beyond the inference of the same frame: p50 {beyond[0]:.1f} ms, p99 {beyond[1]:.1f} ms")
    if whole.unsent:
        print(f"{whole.unsent} frames were not sent: the connection was still busy with the one before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
