"""`server.pictures.see`, which doors and streams ask: answers ready for JSON, errors by row; it can be taken back."""

import asyncio
import base64
import sys
from functools import partial
from pathlib import Path

import pytest

from foretell.cli.main import main
from foretell.engine.engine import Engine
from foretell.engine.worker.local import start_local_instance
from foretell.engine.worker.start import start_process_instance
from foretell.errors import DeadlineExceeded, InvalidInput
from foretell.request import BULK, Base64, Parts
from foretell.server.doors import Doors
from foretell.server.pictures import see

sys.path.insert(0, str(Path(__file__).parent))
from picture_networks import CLASSIFIER, classifier, plain, written
from test_picture_models import encoded

GREEN, RED = encoded(plain((0, 255, 0))), encoded(plain((255, 0, 0)), "JPEG")
LARGE = encoded(plain((0, 0, 255), 800, 700), "BMP")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("see")
    file, picture = written(folder, "colours", classifier(), CLASSIFIER)
    assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / "served" / "colours")]) == 0
    tensors = folder / "served" / "tensors.onnx"
    tensors.write_bytes(classifier())
    return folder / "served"


STARTS = {
    "local": start_local_instance,
    "packets": partial(start_process_instance, transport="packets"),
    "stream": partial(start_process_instance, transport="stream"),
}


@pytest.mark.parametrize("start", STARTS)
def test_what_doors_ask(made: Path, start: str) -> None:
    async def go() -> None:
        engine = Engine(STARTS[start])
        await engine.start([made])
        doors = Doors(engine)
        try:
            await ask(engine, doors)
        finally:
            await engine.close()

    async def ask(engine: Engine, doors: Doors) -> None:
        door = doors.of("colours")
        forms = [
            GREEN,
            bytearray(GREEN),
            memoryview(GREEN),
            Parts([GREEN[:40], GREEN[40:]]),
            Base64(base64.b64encode(GREEN)),
            RED,
            LARGE,
        ]
        seen = await see(engine, door, forms, priority=BULK)
        assert [answer["label"] for answer in seen.answers] == ["green"] * 5 + ["red", "blue"]
        assert seen.answers[:5] == [seen.answers[0]] * 5
        assert seen.timing.run_ns > 0
        with pytest.raises(InvalidInput, match=r"^image, row 1: ") as raised:
            await see(engine, door, [GREEN, GREEN[:30]])
        assert raised.value.row == 1
        with pytest.raises(DeadlineExceeded):
            await see(engine, door, [GREEN], deadline=engine.clock.now() - 1)
        with pytest.raises(InvalidInput, match="takes no pictures"):
            await see(engine, doors.of("tensors"), [GREEN])
        task = asyncio.ensure_future(see(engine, door, [GREEN]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert door.served.pending == 0

    asyncio.run(go())
