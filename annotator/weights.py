"""Where pretrained parts come from: a path, the bundle that ships, the cache. Never a pickle."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from annotator import hub
from annotator.fetch import Remote
from annotator.records import UsageError
from annotator.wheels import own_file

# The export with a fixed input; the one with free sizes does not load in OpenCV 4.14.
YUNET = Remote(
    "yunet_n_320_320.onnx",
    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
    "47198234de8c4646961e46159e02af5b06021a78/onnx/yunet_n_320_320.onnx",
    317434,
    "81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2",
)
# The face detector that is always there (MIT: THIRD_PARTY_LICENSES). OpenCV takes it at any size.
CENTERFACE = own_file(
    "annotator.faces",
    "centerface.onnx",
    "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
)
STARTER = Path(__file__).resolve().parent.parent / "model" / "starter"


def cache_folder() -> Path:
    """Where downloaded parts are kept: ``$ANNOTATE_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("ANNOTATE_CACHE"):
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a name and a home: nothing is there, and nothing can be put there
        base = os.devnull
    return Path(base) / "conversation-annotator"


def yunet_file() -> Path | None:
    """The YuNet face detector: the one that ``$ANNOTATE_YUNET`` names, else one in the cache."""
    if chosen := os.environ.get("ANNOTATE_YUNET"):
        return Path(chosen)
    found = sorted([*cache_folder().glob("yunet*.onnx"), *cache_folder().glob("yunet/*.onnx")])
    return found[0] if found else None


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a checkpoint by its name: ``starter``, a path, or ``hf:OWNER/NAME``, which is fetched.

    Every command, the settings and the functions of Python take the same names, since all ask here. A Path is
    taken as it is: who opens it says what is wrong with it.

    Raises:
        UsageError: there is no such checkpoint, with the remedy.
        SetupError: the hub can't be reached, and its cache has no copy.
    """
    if isinstance(name, Path):
        return name
    if name.startswith(hub.PREFIX):
        folder = hub.fetched(name)
    else:
        folder = STARTER if name == "starter" else Path(name)
    if not (folder / "model.json").is_file():
        hint = (
            "The bundle is missing from this installation: install the package again."
            if name == "starter"
            else "Give the folder that `annotate train` wrote, `starter` or hf:OWNER/NAME."
        )
        raise UsageError(f"There is no checkpoint at {name!r} (no model.json). {hint}")
    return folder


def files_of(folder: Path, *endings: str) -> list[Path]:
    """Files directly below a folder, by name: no pipe, which would be waited for, and no device."""
    return sorted(path for path in folder.iterdir() if path.suffix in endings and path.is_file())


def tree_hash(folder: Path | None) -> str | None:
    """SHA-256 over the names and contents of all files below a folder, hex; None without a folder.

    Read in pieces: weights may be larger than memory.
    """
    if folder is None:
        return None
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(file, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's files, hex."""
    digest = hashlib.sha256()
    for file in files_of(folder, ".safetensors", ".json"):
        with open(file, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        digest.update(file.name.encode() + b"\0" + content)
    return digest.hexdigest()
