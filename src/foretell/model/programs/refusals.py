"""PyTorch's files that are not opened: what each is, and the lines that make a program of it. Runs nothing."""

from __future__ import annotations

import zipfile
from io import BytesIO

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, LoadError
from foretell.model.pickles import UnreadablePickle, read_pickle
from foretell.model.pickles.estimator import class_of
from foretell.model.pickles.inert import Call
from foretell.model.programs.archive import TorchKind

__all__ = ["is_old_torch_pickle", "refuse_torch"]

_OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch.save wrote before 1.6: a pickle of a magic number, and then the pickle of the object."""
_MOST_PICKLE_BYTES = 64 << 20
_EXPORT = (
    "program = torch.export.export(net.eval(), (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)); "
    'torch.export.save(program, "net.pt2")'
)


def is_old_torch_pickle(content: bytes) -> bool:
    """Say whether torch.save wrote it before version 1.6."""
    return content[:1] == b"\x80" and content[2:].startswith(_OLD_MAGIC)


def refuse_torch(name: str, kind: TorchKind, content: bytes) -> LoadError:
    """Return the error for one of PyTorch's files that is not opened: what it is, why not, what to do.

    Args:
        name: Of the file.
        kind: Anything but `program` and `torchscript`.
        content: The file; a pickle in it is read without running it, to say what it holds.
    """
    if kind == "compiled":
        return ArtifactUntrusted(
            f'"{name}": machine code that PyTorch compiled (AOTInductor), which would run unchecked; '
            "save the program itself with torch.export.save"
        )
    if kind == "old program":
        return ArtifactInvalid(
            f'"{name}": a PyTorch program as PyTorch before 2.8 wrote it; save it again with a newer one: '
            f'torch.export.save(torch.export.load("{name}"), "net.pt2")'
        )
    what = _held(content)
    if what.startswith("torch.nn.") or (what and not what.startswith(("collections.", "a dict"))):
        return ArtifactUntrusted(
            f'"{name}": a pickle of a {what}, which runs whatever code is in it when opened, and no option opens it. '
            f'If you made it yourself: import torch; net = torch.load("{name}", weights_only=False); {_EXPORT}'
        )
    return ArtifactUntrusted(
        f'"{name}": a pickle of weights (torch.save) without the network that they belong to, and no option opens it. '
        f'In Python, with the class of the network: net = Net(); net.load_state_dict(torch.load("{name}")); {_EXPORT}'
    )


def _held(content: bytes) -> str:
    """Return the class of the object in a pickle of PyTorch, or nothing where it cannot be told."""
    try:
        if is_old_torch_pickle(content):
            return ""
        with zipfile.ZipFile(BytesIO(content)) as archive:
            member = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
            if member.file_size > _MOST_PICKLE_BYTES:
                return ""
            with archive.open(member) as file:
                root = read_pickle(file.read(member.file_size)).root
    except (UnreadablePickle, zipfile.BadZipFile, OSError, RuntimeError, StopIteration, NotImplementedError, EOFError):
        return ""
    return _class_of(root)


def _class_of(root: object) -> str:
    return (class_of(root) or str(root.function)[:80]) if isinstance(root, Call) else ""
