"""A file that is fetched in ranges, ahead of where it is read: many small reads are few large requests.

1. read in order   what comes next is fetched ahead, more and more of it, in pieces side by side
2. read here and there   exactly what is asked for, at least `_LEAST_BYTES`
3. told beforehand   `will_need`: those ranges and nothing between them, all at once where they are few bytes, else
   each in order, a piece of each ahead

Knows bytes and offsets; not where they come from, nor what they mean.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from foretell.errors import InternalError

__all__ = ["RangedFile"]

_LEAST_BYTES = 1 << 16
_PIECE_BYTES = 1 << 22
"""One request: some tens of milliseconds of waiting are little beside its transfer."""
_MOST_AHEAD_BYTES = 1 << 24
_GAP_BYTES = 1 << 16
"""Bytes that cost less than one more request."""
_MOST_PIECES = 4
_MOST_NEEDED_BYTES = 1 << 26
"""Ranges of so many bytes together are fetched as a whole; of more, no more than this is held at once."""


@dataclass(slots=True)
class _Piece:
    begin: int
    end: int
    left: int
    """Bytes that are still to be read."""
    is_wanted: bool
    """Whether it was told of beforehand."""
    content: Future[bytes]


class RangedFile(io.RawIOBase):
    """A file for reading. One thread reads it; its requests run in threads of its own."""

    def __init__(
        self, fetch: Callable[[int, int], bytes], size_bytes: int, on_close: Callable[[], None] = lambda: None
    ) -> None:
        """Make a file of a function.

        Args:
            fetch: Returns the bytes from an offset up to another; called from several threads.
            size_bytes: Of the file.
            on_close: Called once, when the file is closed.
        """
        self._fetch = fetch
        self._size = size_bytes
        self._on_close = on_close
        self._pool = ThreadPoolExecutor(_MOST_PIECES, thread_name_prefix="foretell-fetch")
        self._pieces: list[_Piece] = []
        self._at = 0
        self._read_to = 0
        self._ahead = 0
        self.failure: Exception | None = None
        """What went wrong with a request: those who read files put it into words of their own."""
        self._streams: list[tuple[int, int, int]] = []
        """Begin, end, bytes of a piece, of ranges that are read in order."""

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can seek: yes."""
        return True

    def size(self) -> int:
        """Return the length of the file in bytes."""
        return self._size

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the start, from here or from the end; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek: got offset {base + offset}, expected 0 or more")
        self._at = base + offset
        return self._at

    def readall(self) -> bytes:
        """Return all bytes from here on."""
        return self.read(-1)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there are bytes; return how many."""
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes, fewer only at the end of the file; -1 or None: all that are left."""
        if self.closed:
            raise ValueError("read: the file is closed")
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        parts = []
        while self._at < end:
            piece = self._piece_at(self._at, end)
            upto = min(piece.end, end)
            parts.append(self._content(piece)[self._at - piece.begin : upto - piece.begin])
            self._at = self._read_to = upto
            piece.left -= len(parts[-1])
            if piece.left <= 0:
                self._pieces.remove(piece)
            self._fetch_ahead()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def will_need(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Tell of ranges that will be read once, each `(begin, end)`, after those that were told of before.

        Each is read in its order; several may be read in turns.
        """
        ranges = sorted((begin, min(end, self._size)) for begin, end in ranges if begin < min(end, self._size))
        if sum(end - begin for begin, end in ranges) > _MOST_NEEDED_BYTES:
            step = max(_LEAST_BYTES, min(_PIECE_BYTES, _MOST_NEEDED_BYTES // (2 * len(ranges))))
            before = self._streams[-len(ranges) :]  # what was told of before that may still be read
            self._streams = before + [(begin, end, step) for begin, end in ranges]
            return
        joined: list[list[int]] = []
        for begin, end in ranges:
            if joined and begin - joined[-1][1] <= _GAP_BYTES:
                joined[-1][1] = max(joined[-1][1], end)
            else:
                joined.append([begin, end])
        for begin, end in joined:
            self._ask(begin, end, wanted=ranges)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes are fetched, or on their way, and not read."""
        return sum(piece.left for piece in self._pieces)

    def close(self) -> None:
        """Let go of what was fetched; wait for requests under way."""
        if not self.closed:
            self._drop()
            self._pool.shutdown(cancel_futures=True)
            self._on_close()
        super().close()

    def _content(self, piece: _Piece) -> bytes:
        try:
            return piece.content.result()
        except Exception as e:
            self.failure = e
            raise

    def _piece_at(self, at: int, end: int) -> _Piece:
        found = self._find(at)
        if found is not None:
            return found
        for begin, stop, step in self._streams:
            if begin <= at < stop:
                self._ask(at, min(at + step, stop), wanted=[(at, stop)])
                break
        else:
            # Read on, and so it will be; or read elsewhere, and what was read there before is done with.
            self._ahead = min(max(4 * self._ahead, _LEAST_BYTES), _MOST_AHEAD_BYTES) if at == self._read_to else 0
            self._pieces = [p for p in self._pieces if p.is_wanted]
            upto = max(end, at + max(self._ahead, _LEAST_BYTES))
            self._ask(at, min([upto, self._size, *(p.begin for p in self._pieces if p.begin > at)]))
        found = self._find(at)
        if found is None:
            raise InternalError(f"offset {at}: it was asked for and is not there. This is a bug.")
        return found

    def _find(self, at: int) -> _Piece | None:
        return next((piece for piece in self._pieces if piece.begin <= at < piece.end), None)

    def _fetch_ahead(self) -> None:
        """Keep what comes next on its way, more and more of it, where the file is read in order."""
        for begin, stop, step in self._streams:
            if begin < self._at < stop:
                piece = self._find(self._at - 1) or self._find(self._at)
                following = self._at if piece is None else piece.end
                if following < stop and self._find(following) is None:
                    self._ask(following, min(following + step, stop), wanted=[(following, stop)])
                return
        fetched_to = max((p.end for p in self._pieces), default=self._at)
        while self._ahead >= _PIECE_BYTES and fetched_to < min(self._at + self._ahead - _PIECE_BYTES + 1, self._size):
            upto = min(fetched_to + _PIECE_BYTES, self._size)
            self._ask(fetched_to, upto)
            fetched_to = upto
            self._ahead = min(2 * self._ahead, _MOST_AHEAD_BYTES)

    def _ask(self, begin: int, end: int, wanted: Sequence[tuple[int, int]] = ()) -> None:
        while begin < end:
            upto = min(begin + _PIECE_BYTES, end)
            left = sum(max(0, min(upto, b) - max(begin, a)) for a, b in wanted) if wanted else upto - begin
            content = self._pool.submit(self._fetch, begin, upto)
            self._pieces.append(_Piece(begin, upto, left, bool(wanted), content))
            begin = upto

    def _drop(self) -> None:
        for piece in self._pieces:
            piece.content.cancel()
        self._pieces = []
