import gzip
import io
import random
import threading

import pytest

from foretell.bulk import ranged
from foretell.bulk.ranged import RangedFile

MIB = 1 << 20


class Far:
    """Content that is fetched in ranges, which are counted."""

    def __init__(self, size):
        self.content = random.Random(1).randbytes(size)
        self.asked = []
        self.lock = threading.Lock()

    def fetch(self, begin, end):
        assert 0 <= begin < end <= len(self.content)
        with self.lock:
            self.asked.append((begin, end))
        return self.content[begin:end]

    @property
    def fetched_bytes(self):
        return sum(end - begin for begin, end in self.asked)

    def open(self):
        return RangedFile(self.fetch, len(self.content))


def test_read_in_order_nothing_is_fetched_twice_and_requests_are_few():
    far = Far(40 * MIB + 17)
    with far.open() as file:
        parts = []
        while part := file.read(1 << 16):
            parts.append(part)
            waiting = sum(p.end - p.begin for p in file._pieces)
            assert waiting <= 24 * MIB
    assert b"".join(parts) == far.content
    assert far.fetched_bytes == len(far.content)
    assert len(far.asked) <= 16


def test_a_look_at_the_start_costs_little():
    far = Far(40 * MIB)
    with far.open() as file:
        assert file.read(4096) == far.content[:4096]
    assert far.fetched_bytes <= 1 << 16


def test_read_here_and_there():
    far = Far(3 * MIB)
    rng = random.Random(2)
    with far.open() as file:
        for _ in range(300):
            at, size = rng.randrange(3 * MIB + 10), rng.randrange(200_000)
            assert file.seek(at) == file.tell() == at
            assert file.read(size) == far.content[at : at + size]
            assert len(file._pieces) <= 2
        file.seek(-5, io.SEEK_END)
        assert file.read() == far.content[-5:]
        assert file.read(1) == b""


def test_what_is_needed_is_fetched_and_nothing_else():
    far = Far(30 * MIB)
    columns = [(4, 6 * MIB), (10 * MIB, 11 * MIB), (11 * MIB + 50, 12 * MIB), (29 * MIB, 40 * MIB)]
    with far.open() as file:
        file.will_need(columns)
        places = [[begin, min(end, 30 * MIB)] for begin, end in columns]
        while places:  # readers of columns take turns
            for place in places:
                begin = place[0]
                upto = min(begin + (1 << 18), place[1])
                file.seek(begin)
                assert file.read(upto - begin) == far.content[begin:upto]
                place[0] = upto
            places = [p for p in places if p[0] < p[1]]
        assert file._pieces == []
    assert far.fetched_bytes == 9 * MIB - 4
    assert len(far.asked) == 4


def test_ranges_of_many_bytes_are_fetched_a_piece_ahead_of_each(monkeypatch):
    monkeypatch.setattr(ranged, "_MOST_NEEDED_BYTES", 4 * MIB)
    far = Far(30 * MIB)
    places = [[MIB, 9 * MIB], [11 * MIB, 20 * MIB], [20 * MIB, 30 * MIB]]
    with far.open() as file:
        file.will_need((a, b) for a, b in places)
        while places:
            for place in places:
                upto = min(place[0] + (1 << 18), place[1])
                file.seek(place[0])
                assert file.read(upto - place[0]) == far.content[place[0] : upto]
                place[0] = upto
                assert file.waiting_bytes <= 5 * MIB
            places = [p for p in places if p[0] < p[1]]
        assert file.waiting_bytes == 0
    assert far.fetched_bytes == 27 * MIB
    assert len(far.asked) <= 45


def test_a_fault_comes_when_its_bytes_are_read():
    def fetch(begin, end):
        raise RuntimeError("gone")

    file = RangedFile(fetch, 10)
    file.will_need([(0, 10)])
    with pytest.raises(RuntimeError, match="gone"):
        file.read(1)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_readers_of_the_standard_library_take_it():
    packed = gzip.compress(b"a,b\n" * 100_000)
    file = RangedFile(lambda begin, end: packed[begin:end], len(packed))
    with gzip.GzipFile(fileobj=file) as stream:
        assert stream.read() == b"a,b\n" * 100_000
    buffer = bytearray(7)
    file.seek(0)
    assert file.readinto(buffer) == 7
    assert bytes(buffer) == packed[:7]
    file.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("foretell-fetch")]
