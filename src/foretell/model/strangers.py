"""Files that are no model Foretell opens: what each looks like, and what its owner can do. Knows magic numbers only."""

from __future__ import annotations

from foretell.model.containers import COMPRESSIONS, Damaged, zip_members

__all__ = ["stranger"]

_ONNX_EXPORT = "export the network to ONNX"
_DATA = "that is data, not a model"
_MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)", f"{_ONNX_EXPORT} (model.export('net.onnx', format='onnx'))"),
    (b"GGUF", "a GGUF language model", "Foretell does not run language models"),
    (
        b"binf",
        "an old binary XGBoost model",
        "load it with XGBoost before 3.1 and save it with save_model('model.ubj')",
    ),
    (
        b"bs64",
        "an old base64 XGBoost model",
        "load it with XGBoost before 3.1 and save it with save_model('model.ubj')",
    ),
    (b"PAR1", "a Parquet file", _DATA),
    (b"ARROW1", "an Arrow file", _DATA),
    (b"\x93NUMPY", "a numpy array", _DATA),
    (b"\x7fELF", "a Linux program", "expected a model"),
    (b"MZ", "a Windows program", "expected a model"),
    (b"%PDF", "a PDF", "expected a model"),
    (b"\x89PNG", "a PNG image", _DATA),
    (b"\xff\xd8\xff", "a JPEG image", _DATA),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it with git lfs pull"),
    (b"<!DOCTYPE html", "a web page", "the download went wrong; fetch it again"),
    (b"<html", "a web page", "the download went wrong; fetch it again"),
)
_ZIPS: tuple[tuple[str, str, str], ...] = (
    ("model.weights.h5", "a Keras file", f"{_ONNX_EXPORT} (model.export('net.onnx', format='onnx'))"),
)


def stranger(content: bytes) -> tuple[str, str]:
    """Say what bytes look like, and what to do about it; the second is empty where nothing special helps."""
    for magic, what, advice in _MAGICS:
        if content.startswith(magic):
            return what, advice
    if content[4:8] == b"TFL3":
        return "a TensorFlow Lite model", _ONNX_EXPORT
    if content[4:8] == b"ORTM":
        return "a model in ONNX Runtime's own format (.ort)", "give the ONNX file it was made from"
    if _is_safetensors(content):
        return "safetensors: weights without a network", "export the network that they belong to (torch.export.save)"
    if content.startswith(b"PK\x03\x04"):
        return _zip(content)
    for name, heads in COMPRESSIONS.items():
        if content.startswith(heads):
            return f"a {name}-compressed file without a pickle in it", "unpack it first, if a model is inside"
    return _text(content[:4096])


def _is_safetensors(content: bytes) -> bool:
    header = int.from_bytes(content[:8], "little")
    return 2 <= header <= len(content) - 8 and content[8:9] == b"{" and b'"data_offsets"' in content[8 : 8 + header]


def _zip(content: bytes) -> tuple[str, str]:
    try:
        names = zip_members(content)
    except Damaged as error:
        return f"a damaged zip file ({error})", "copy it again"
    leaves = {n.rsplit("/", 1)[-1] for n in names}
    for name, what, advice in _ZIPS:
        if name in leaves:
            return what, advice
    if names and all(n.endswith(".npy") for n in names):
        return "numpy arrays (.npz)", _DATA
    return f"a zip file of {len(names)} files", "unpack it first, if a model is inside"


def _text(head: bytes) -> tuple[str, str]:
    if head.lstrip().startswith(b"<?xml") or head.lstrip().startswith(b"<PMML"):
        return "XML (PMML?)", "export the model to ONNX"
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < 4096 else "ignore")
    except UnicodeDecodeError:
        return f"an unknown binary file (begins with {head[:8].hex(' ')})", ""
    if not all(c.isprintable() or c in "\t\r\n\f" for c in text):
        return f"an unknown binary file (begins with {head[:8].hex(' ')})", ""
    if not text.strip():
        return "blank text", ""
    lines = text.strip().splitlines()
    commas = [line.count(",") for line in lines[:3]]
    if len(commas) > 1 and commas[0] > 0 and len(set(commas)) == 1:
        return "a CSV table", _DATA
    return f"text ({lines[0][:40]!r}{'...' if len(text) > 40 else ''})", ""
