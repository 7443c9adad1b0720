"""Find recordings in files and folders, name them for the table, and find what lies beside them."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotator import sidecars as names
from annotator.records import RecordingError, UsageError
from annotator.terminal import escaped

MEDIA_SUFFIXES: frozenset[str] = frozenset(
    ".3g2 .3ga .3gp .aac .ac3 .aif .aifc .aiff .amr .ape .asf .au .avi .awb .bwf .caf .divx .dts .dtshd .dv "
    ".eac3 .ec3 .f4a .f4v .flac .flv .m2t .m2ts .m2v .m4a .m4b .m4r .m4v .mka .mkv .mov .mp2 .mp3 .mp4 .mpeg "
    ".mpg .mpga .mts .mxf .oga .ogg .ogv .opus .qt .rf64 .snd .ts .tta .vob .w64 .wav .wave .webm .wma .wmv "
    ".wv".split()
)
# A run's outputs by the name of its record, labels.run.json: they are no inputs of the next one.
_RECORD = ".run.json"
_OUTPUTS = (".parquet", ".csv", ".failures.csv", ".recordings.parquet", ".recordings.csv", _RECORD)
_WORK_SUFFIX = ".work"  # our own folders of finished parts


Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Found:
    """A recording, or something with a recording's name that can't be used: ``problem`` says why."""

    path: Path  # absolute
    file: str  # '/'-separated, valid Unicode, unique within one search
    problem: RecordingError | None = None


@dataclass(frozen=True)
class PassedOver:
    """A file in the inputs that is neither a recording nor the transcript or speaker file of one."""

    file: str  # named as recordings are
    reason: str


def find(inputs: Sequence[Path]) -> list[Found]:
    """Recordings among ``inputs``: files as they are, folders recursively. By ``file``, each path once.

    In folders a media suffix decides (in any case); hidden entries and ``*.work`` folders are passed over.
    A link counts when it stays inside the folder given; a linked folder is never entered, so there are no
    loops. A transcript or speaker file that is named beside its recording is no recording.

    Raises:
        UsageError: an input does not exist.
    """
    return look_through(inputs)[0]


def common_folder(inputs: Sequence[Path]) -> Path:
    """The folder that the names of recordings among ``inputs`` are relative to."""
    roots = [_absolute(path) for path in inputs]
    return Path(os.path.commonpath([str(root if root.is_dir() else root.parent) for root in roots]))


def look_through(inputs: Sequence[Path]) -> tuple[list[Found], list[PassedOver]]:
    """The recordings among ``inputs`` as :func:`find` has them, and the files that are not used, by name."""
    roots = [_absolute(path) for path in inputs]
    for argument, root in zip(inputs, roots, strict=True):
        if not os.path.lexists(root):
            raise UsageError(f"There is no file or folder {escaped(str(argument))!r}: check the path.")
    if not roots:
        return [], []
    base = common_folder(inputs)
    entries: dict[Path, Found] = {}
    others: dict[Path, None] = {}
    for root in roots:
        candidates = _walk(root, others) if root.is_dir() else iter([(root, _fault(root, None))])
        for path, problem in candidates:
            # The same path may be outside one input and inside another: then it is usable.
            if path not in entries or entries[path].problem is not None:
                entries[path] = Found(path, _label(os.path.relpath(path, base)), problem)
    beside: set[Path] = set()
    for path in list(entries):
        if not _is_sidecar(path):
            try:
                beside.update(sidecars(path))
            except RecordingError as error:
                entries[path] = replace(entries[path], problem=entries[path].problem or error)
    recordings = [entry for path, entry in entries.items() if path not in beside]
    passed_over = [
        PassedOver(_label(os.path.relpath(path, base)), _why_not(path))
        for path in others
        if path not in entries and path not in beside
    ]
    return (
        sorted(recordings, key=lambda entry: entry.file),
        sorted(passed_over, key=lambda other: other.file),
    )


def _is_sidecar(path: Path) -> bool:
    return path.suffix.lower() in names.SUFFIXES


def _why_not(path: Path) -> str:
    if _is_sidecar(path):
        return "no recording beside it has this name"
    return "its ending is none of a recording or transcript"


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
    """Transcript and speaker files beside a recording, sorted; ``annotator/sidecars.py`` says by what names.

    Regular files only; a link that leaves the folder is passed over.

    Raises:
        RecordingError: the folder can't be read for another reason than that it is not there or not to be
            listed, so that nobody knows what lies beside it.
    """
    try:
        return _sidecars(path)
    except (FileNotFoundError, PermissionError):
        return ()  # a folder may be passed through without being listed; then nothing lies visibly beside
    except OSError as error:
        raise RecordingError(
            "find", "unreadable", f"What lies beside it can't be read: {error.strerror}."
        ) from error


def stamps(path: Path, *, beside: bool = True) -> dict[Path, Stamp]:
    """Size, times and inode of a recording and of the files beside it: they tell whether one has changed.

    The change time can't be set by a program, so an edit that restores the old modification time is seen.

    Args:
        beside: whether to look at the files beside it at all.

    Raises:
        OSError, RecordingError: they can't be looked at.
    """
    stamp_of = {}
    for file in (path, *(sidecars(path) if beside else ())):
        status = file.stat()
        stamp_of[file] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return stamp_of


def same(one: Mapping[Path, Sequence[int]], other: Mapping[Path, Sequence[int]]) -> bool:
    """Whether two findings of :func:`stamps` are of the same unchanged files.

    A file whose inode alone is another is the same: some network file systems number files anew.
    """
    return one.keys() == other.keys() and all(tuple(one[p][:-1]) == tuple(other[p][:-1]) for p in one)


def _sidecars(path: Path) -> tuple[Path, ...]:
    folder = path.parent
    listed, owned = _beside(folder, os.stat(folder).st_mtime_ns)
    if path.name not in listed:  # named outright, with an ending that no recording has in a folder
        owners = {stem: (path.name,) for stem in names.stems(path.name)}
        candidates = [name for name in listed if names.owners(name, owners)]
    else:
        candidates = owned.get(path.name, [])
    real_folder = os.path.realpath(folder)
    beside = []
    for name in candidates:
        candidate = folder / name
        if name != path.name and candidate.is_file():
            if not candidate.is_symlink() or _inside(candidate, real_folder):
                beside.append(candidate)
    return tuple(beside)


@functools.lru_cache(maxsize=8)
def _beside(folder: Path, changed_ns: int) -> tuple[dict[str, None], dict[str, list[str]]]:
    """Names in a folder that matter, and which may be the sidecars of each recording.

    Made once for a folder of many recordings while it is unchanged. A run's own record (``talk.run.json``
    beside ``talk.mp4``) is no sidecar: it changes with every run.
    """
    listed: dict[str, None] = {}
    recordings_of: dict[str, list[str]] = {}
    beside = []
    for name in sorted(os.listdir(folder)):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in MEDIA_SUFFIXES:
            listed[name] = None
            for stem in names.stems(name):
                recordings_of.setdefault(stem, []).append(name)
        elif suffix in names.SUFFIXES and not name.endswith(_RECORD):
            listed[name] = None
            beside.append(name)
    owned: dict[str, list[str]] = {}
    for name in beside:
        for recording in names.owners(name, recordings_of):
            owned.setdefault(recording, []).append(name)
    return listed, owned


def _absolute(path: Path) -> Path:
    # Dots are resolved by the file system: past a link, "a/.." is not where its name suggests.
    return Path(os.path.realpath(path) if ".." in path.parts else os.path.abspath(path))


def _label(relative: str) -> str:
    """A name as valid Unicode, different for different names: bytes that are not UTF-8 become ``\\xHH``.

    A backslash that already stands before such a pattern is written ``\\x5c``, so no two names meet.
    """
    return printable(relative.replace(os.sep, "/"))


def printable(name: str) -> str:
    """One name as :func:`_label` writes it."""
    plain = re.sub(r"\\(?=x[0-9a-f]{2})", lambda _: r"\x5c", name)
    return os.fsencode(plain).decode("utf-8", "backslashreplace")


def _walk(root: Path, others: dict[Path, None]) -> Iterator[tuple[Path, RecordingError | None]]:
    """What has a recording's name below a folder, with what is wrong with it; ``others`` gets the rest."""
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
        runs = [entry.name.removesuffix(_RECORD) for entry in entries if entry.name.endswith(_RECORD)]
        outputs = {run + ending for run in runs for ending in _OUTPUTS}
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
            elif entry.name not in outputs and entry.is_file():
                others[path] = None


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
