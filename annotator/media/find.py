"""Find recordings in files and folders, name them for the table, and find what lies beside them."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from annotator.media.child import escaped  # noqa: TID251 - its own package
from annotator.records import RecordingError, UsageError

MEDIA_SUFFIXES: frozenset[str] = frozenset(
    ".3g2 .3gp .aac .asf .avi .f4v .flac .flv .m2ts .m4a .m4b .m4v .mka .mkv .mov .mp2 .mp3 .mp4 .mpeg .mpg "
    ".mts .oga .ogg .ogv .opus .ts .vob .wav .webm .wma .wmv".split()
)
SIDECAR_SUFFIXES: frozenset[str] = frozenset({".srt", ".vtt", ".json", ".ctm", ".rttm"})
_WORK_SUFFIX = ".work"  # our own folders of finished parts


@dataclass(frozen=True)
class Found:
    """A recording, or something with a recording's name that can't be used: ``problem`` says why."""

    path: Path  # absolute
    file: str  # '/'-separated, valid Unicode, unique within one search
    problem: RecordingError | None = None


def find(inputs: Sequence[Path]) -> list[Found]:
    """Recordings among ``inputs``: files as they are, folders recursively. By ``file``, each path once.

    In folders a media suffix decides (in any case); hidden entries and ``*.work`` folders are passed over.
    A link counts when it stays inside the folder given; a linked folder is never entered, so there are no
    loops.

    Raises:
        UsageError: an input does not exist.
    """
    roots = [_absolute(path) for path in inputs]
    for given, root in zip(inputs, roots, strict=True):
        if not os.path.lexists(root):
            raise UsageError(f"There is no file or folder {escaped(str(given))!r}: check the path.")
    if not roots:
        return []
    parents = [str(root if root.is_dir() else root.parent) for root in roots]
    base = os.path.commonpath(parents)
    found: dict[Path, Found] = {}
    for root in roots:
        candidates = _walk(root) if root.is_dir() else iter([(root, _fault(root, None))])
        for path, problem in candidates:
            # The same path may be outside one input and inside another: then it is usable.
            if path not in found or found[path].problem is not None:
                found[path] = Found(path, _label(os.path.relpath(path, base)), problem)
    return sorted(found.values(), key=lambda entry: entry.file)


def content_hash(path: Path) -> str:
    """SHA-256 of the file's content, hex. Reads it in pieces.

    Raises:
        RecordingError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RecordingError("find", "unreadable", f"The file can't be read: {error.strerror}.") from error


def sidecars(path: Path) -> tuple[Path, ...]:
    """Transcript and speaker files beside a recording, sorted.

    For ``talk.mp4``: ``talk.srt``, ``talk.en.srt``, ``talk.mp4.srt``, and so for .vtt, .json, .ctm and .rttm.
    Regular files only; a link that leaves the folder is passed over.
    """
    folder = path.parent
    stems = "|".join(re.escape(stem) for stem in sorted({path.name, path.stem}, key=len, reverse=True))
    suffixes = "|".join(re.escape(suffix) for suffix in sorted(SIDECAR_SUFFIXES))
    language = r"(?:\.[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)?(?:\.(?:forced|sdh|cc))?"
    pattern = re.compile(f"(?:{stems}){language}(?i:{suffixes})", re.DOTALL)
    real_folder = os.path.realpath(folder)
    beside = []
    try:
        names = _sidecar_names(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return ()  # a folder may be passed through without being listed; then nothing lies visibly beside
    for name in names[bisect_left(names, path.stem) :]:
        if not name.startswith(path.stem):
            break
        candidate = folder / name
        if pattern.fullmatch(name) and name != path.name and candidate.is_file():
            if not candidate.is_symlink() or _inside(candidate, real_folder):
                beside.append(candidate)
    return tuple(beside)


@functools.lru_cache(maxsize=8)
def _sidecar_names(folder: Path, changed_ns: int) -> list[str]:
    """Sorted names that may be sidecars; listed once for a folder of many recordings while it is unchanged.

    A run's own record (``talk.run.json`` beside ``talk.mp4``) is none: it changes with every run.
    """
    return sorted(
        name
        for name in os.listdir(folder)
        if os.path.splitext(name)[1].lower() in SIDECAR_SUFFIXES and not name.endswith(".run.json")
    )


def _absolute(path: Path) -> Path:
    # Dots are resolved by the file system: past a link, "a/.." is not where its name suggests.
    return Path(os.path.realpath(path) if ".." in path.parts else os.path.abspath(path))


def _label(relative: str) -> str:
    """A name as valid Unicode, different for different names: bytes that are not UTF-8 become ``\\xHH``.

    A backslash that already stands before such a pattern is written ``\\x5c``, so no two names meet.
    """
    plain = re.sub(r"\\(?=x[0-9a-f]{2})", lambda _: r"\x5c", relative.replace(os.sep, "/"))
    return os.fsencode(plain).decode("utf-8", "backslashreplace")


def _walk(root: Path) -> Iterator[tuple[Path, RecordingError | None]]:
    """What has a recording's name below a folder, with what is wrong with it."""
    real_root = os.path.realpath(root)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            yield (
                folder,
                RecordingError("find", "no_permission", f"The folder can't be read: {error.strerror}."),
            )
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if path.suffix != _WORK_SUFFIX:
                    waiting.append(path)
            elif entry.is_symlink() and path.is_dir():
                if not _inside(path, real_root):  # what lies inside is found under its own name
                    yield path, _outside()
            elif path.suffix.lower() in MEDIA_SUFFIXES:
                yield path, _fault(path, real_root)


def _fault(path: Path, real_root: str | None) -> RecordingError | None:
    """Why this path can't be a recording; ``real_root`` is the folder that a link must not leave."""
    if real_root is not None and path.is_symlink() and not _inside(path, real_root):
        return _outside()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return RecordingError(
                "find", "not_a_regular_file", "It is not a file but a pipe, socket or device."
            )
        if status.st_size == 0:
            return RecordingError("find", "empty_file", "The file has no content.")
        with open(path, "rb"):
            return None
    except PermissionError:
        return RecordingError("find", "no_permission", "You may not read this file: change its permissions.")
    except FileNotFoundError:
        return RecordingError("find", "dangling_link", "It is a link to something that does not exist.")
    except OSError as error:  # a loop of links, a failing disk
        return RecordingError("find", "unreadable", f"The file can't be read: {error.strerror}.")


def _outside() -> RecordingError:
    return RecordingError(
        "find",
        "outside_link",
        "It is a link to a place outside the input folder: give that place as an input too.",
    )


def _inside(path: Path, real_root: str) -> bool:
    real = os.path.realpath(path)
    return real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)
