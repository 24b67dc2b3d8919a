"""The zip files that PyTorch writes: which kind one is, and the bytes of its members, copied nowhere.

PyTorch stores members as they are. A compressed member where raw data is expected is therefore refused, so that no
member is larger than the file. Knows no program and no framework.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Literal

from foretell.model.containers import Damaged

__all__ = ["Members", "TorchKind", "kind_of_torch_file"]

TorchKind = Literal["program", "old program", "compiled", "torchscript", "pickle"]

_MOST_MEMBERS = 200_000
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"


def kind_of_torch_file(names: list[str]) -> TorchKind | None:
    """Say which of PyTorch's files has members of these names; None for none of them.

    Returns:
        `program` for what torch.export.save writes since 2.9, `old program` for what it wrote before, `compiled` for
        a package of AOTInductor, `torchscript`, or `pickle` for what torch.save writes.
    """
    inner = {name.partition("/")[2] for name in names}
    if "serialized_exported_program.json" in names or "serialized_exported_program.json" in inner:
        return "old program"
    if "archive_format" in inner:
        if any(name.startswith("models/") for name in inner):
            return "program"
        return "compiled" if any(name.startswith("data/aotinductor/") for name in inner) else None
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    return "pickle" if "data.pkl" in inner else None


class Members:
    """The members of one of PyTorch's zip files, by their names without the folder they all lie in."""

    def __init__(self, content: bytes) -> None:
        """Read the directory.

        Raises:
            Damaged: It is cut off, or breaks the rules: members of the same name, of several folders, too many.
        """
        self._content = memoryview(content)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError, EOFError) as error:
            raise Damaged(f"cut off or damaged: {error}") from error
        if len(infos) > _MOST_MEMBERS:
            raise Damaged(f"{len(infos)} members, at most {_MOST_MEMBERS} expected")
        if len({info.filename.partition("/")[0] for info in infos}) != 1:
            raise Damaged("its members lie in several folders, one expected")
        self._infos = {info.filename.partition("/")[2]: info for info in infos}
        if len(self._infos) != len(infos):
            raise Damaged("a name occurs twice in its directory")

    @property
    def names(self) -> list[str]:
        """Names, in the order of the directory."""
        return list(self._infos)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def view(self, name: str) -> memoryview:
        """Return the bytes of a member, as they lie in the file.

        Raises:
            Damaged: There is none, it is compressed or encrypted, reaches beyond the end, or its checksum is wrong.
        """
        info = self._infos.get(name)
        if info is None:
            raise Damaged(f'no member "{name}"')
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise Damaged(f'member "{name}" is compressed or encrypted; expected it as it is')
        at = info.header_offset
        if at < 0 or at + _LOCAL_HEADER.size > len(self._content):
            raise Damaged(f'member "{name}" begins beyond the end')
        head = _LOCAL_HEADER.unpack_from(self._content, at)
        start = at + _LOCAL_HEADER.size + head[9] + head[10]
        if head[0] != _LOCAL_MAGIC or start + info.file_size > len(self._content):
            raise Damaged(f'member "{name}" of {info.file_size} bytes reaches beyond the end')
        found = self._content[start : start + info.file_size]
        if zlib.crc32(found) != info.CRC:
            raise Damaged(f'member "{name}" has another checksum than the directory says')
        return found
