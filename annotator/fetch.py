"""Fetches pretrained parts at pinned revisions: resumed where they stopped, checked by hash, whole or not.

A part lands in a folder of its own below the cache. Until it is complete the folder is called
``<name>.partial`` and an unfinished file in it ``<file>.part``: the same call goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path

from annotator import offline, plain_json
from annotator.files import rename, replace_folder
from annotator.records import SetupError

ANSWER_S = 5.0  # that a server has to answer in, and to go on in
PIECE = 1 << 20  # bytes
MOST_LISTED = 64 << 20  # bytes of a list of files


@dataclass(frozen=True)
class Remote:
    """A file to fetch, and by which hash it is known: SHA-256, or git's SHA-1 of the file as a blob."""

    path: str  # in the part's folder
    url: str
    size: int  # bytes
    hash: str  # hex: 64 digits SHA-256, 40 digits git


class Refused(SetupError):
    """The server wants to know who asks (HTTP 401 or 403)."""


def part_folder(cache: Path, repository: str, revision: str) -> Path:
    """Where a repository of the model hub lies when it is fetched."""
    return cache / f"{repository.replace('/', '--')}-{revision[:12]}"


def fetch_repository(
    repository: str,
    revision: str,
    patterns: Sequence[str],
    folder: Path,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """The files of a model repository that match, in ``folder``.

    The token comes from ``HF_TOKEN`` or the file that `hf auth login` writes, and is sent to the hub alone.

    Raises: Refused for a gated model; SetupError when the hub does not give a file, or the disk is full.
    """
    if (folder / ".complete").is_file():
        return folder
    listed = [
        r for r in listing(repository, revision) if any(fnmatch(r.path, pattern) for pattern in patterns)
    ]
    return fetch(listed, folder, on_bytes)


def listing(repository: str, revision: str) -> list[Remote]:
    """The files of a repository at a commit, with their sizes and hashes, as the model hub tells them."""
    from huggingface_hub import constants, hf_hub_url

    url = f"{constants.ENDPOINT}/api/models/{repository}/tree/{revision}?recursive=true"
    with _request(url) as answer:
        listed = bytearray()
        for piece in answer.pieces():
            listed += piece
            if len(listed) > MOST_LISTED:
                raise SetupError(f"{url} answers with more than a list of files can have.")
    files = []
    try:
        for entry in plain_json.loads(bytes(listed)):
            if entry["type"] == "file":
                stored = entry.get("lfs") or entry
                path = plain_path(entry["path"])
                address = hf_hub_url(repository, path, revision=revision)
                files.append(Remote(path, address, int(entry["size"]), str(stored["oid"])))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SetupError(f"{url} answers with something else than a list of files ({error}).") from error
    return files


def plain_path(path: str) -> str:
    """A path inside a repository, as it is.

    Raises: ValueError when it would lead out of a folder, or is none for every system.
    """
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or ":" in path or any(p in ("", ".", "..") for p in parts):
        raise ValueError(f"{path!r} is no path of a file in a repository")
    return path


def fetch(files: Sequence[Remote], folder: Path, on_bytes: Callable[[int], None] | None = None) -> Path:
    """Those files in ``folder``; it appears when all of them are there and have their hashes.

    Args:
        on_bytes: called with the number of bytes that have come since the call before.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(folder.name + ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits for the first and finds all there
            if not (folder / ".complete").is_file():
                for file in files:
                    _fetch_file(file, partial / file.path, on_bytes or (lambda n: None))
                (partial / ".complete").touch()
                replace_folder(partial, folder)
            elif not any(partial.iterdir()):
                partial.rmdir()
    except OSError as error:
        raise SetupError(
            f"{folder} can't be written: {error.strerror}. Free some space, or name another place in "
            "ANNOTATE_CACHE; the same command goes on."
        ) from error
    return folder


def _fetch_file(file: Remote, target: Path, on_bytes: Callable[[int], None]) -> None:
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have < file.size or not part.is_file():
        with _request(file.url, have) as answer:
            # A server that can't go on in the middle sends the whole file with status 200.
            with open(part, "ab" if have and answer.is_rest else "wb") as out:
                for piece in answer.pieces():
                    out.write(piece)
                    on_bytes(len(piece))
    size = part.stat().st_size
    if size < file.size:
        raise SetupError(
            f"{file.path} broke off after {size} of {file.size} bytes: the same command goes on from there."
        )
    if size > file.size or content_hash(part, git=len(file.hash) == 40) != file.hash:
        part.unlink()
        raise SetupError(
            f"{file.path} from {file.url} is not what it should be (its hash differs) and was deleted: "
            "run the same command again; if it comes back, the source has been changed."
        )
    rename(part, target)


def content_hash(path: Path, *, git: bool = False) -> str:
    """SHA-256 of a file, hex; or git's SHA-1 of it as a blob."""
    digest = hashlib.sha1(usedforsecurity=False) if git else hashlib.sha256()
    if git:
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def _request(url: str, start: int = 0) -> Iterator[_Answer]:
    """What a server sends from byte ``start`` on. The token goes to the hub, never to whom it redirects.

    Raises: Refused, or SetupError when there is no answer or the answer is no file.
    """
    from huggingface_hub import constants, get_token

    offline.refuse(url)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if url.startswith(constants.ENDPOINT + "/") and (token := get_token()):
        # Unlike other headers, one that is "unredirected" is not sent on.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=ANSWER_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                raise Refused(f"{url} is not given to everybody (HTTP {error.code}).") from error
            raise SetupError(f"{url} answered with HTTP {error.code}: try again later.") from error
    except (OSError, HTTPException) as error:
        raise _unreachable(url, error) from error
    with response:
        yield _Answer(url, response)


@dataclass(frozen=True)
class _Answer:
    url: str
    response: HTTPResponse

    @property
    def is_rest(self) -> bool:
        """Whether it begins where it was asked to, not at the start of the file."""
        return self.response.status == 206

    def pieces(self) -> Iterator[bytes]:
        """All that comes, until it ends or breaks off; who reads must count."""
        while True:
            try:
                piece = self.response.read(PIECE)
            except IncompleteRead as error:
                piece = error.partial
            except (OSError, HTTPException) as error:
                raise _unreachable(self.url, error) from error
            if not piece:
                return
            yield piece


def _unreachable(url: str, error: Exception) -> SetupError:
    reason = str(error).strip() or type(error).__name__
    return SetupError(f"{url} can't be reached ({reason}): the same command goes on once there is a network.")
