"""A store that machines share: files below a URL, in an object store or a folder that all of them see.

fsspec reaches it. What comes with it are ``file://`` and ``memory://`` (of one process, for tests); the
package of an object store is the user's to install. Only stores are taken that can put a file under a
condition: whole or not at all, and, where that is asked for, only if there is none of that name.

Credentials are none of our business: the packages read them from the environment and from their own files.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from annotator import files, folders, offline
from annotator.records import SetupError, UsageError

# By scheme, the package that fsspec needs for it. Others of fsspec's have no conditional put.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "file": None, "memory": None}
LOCAL = ("file", "memory")  # no network
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SECRETS = re.compile(r"(?<=//)[^/@\s]+@|(?<=\?)[^\s\"']+")  # user and password; the query of a signed URL
_LONGEST_REASON = 300  # characters
REMEDY = (
    "See to the address, the network and the credentials; the same command goes on from what is finished."
)


class StoreError(SetupError):
    """The store can't be read or written."""


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is named by a URL, not by a path."""
    return _URL.fullmatch(os.fspath(place)) is not None


def checked(url: str) -> str:
    """The URL of a store, without slashes at its end.

    Raises: ValueError with a sentence that doesn't repeat what may be a password.
    """
    match = _URL.fullmatch(url)
    if match is None or match[1] not in PACKAGES:
        raise ValueError("it is no URL of a store: s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH")
    place = match[2].rstrip("/")
    if "@" in place.split("/")[0]:
        raise ValueError(
            "it holds a user or a password: leave them out, and give credentials by the environment or the "
            "files that s3fs and gcsfs read"
        )
    if re.search(r"[?#*\[\]]|::", place) or not place.isprintable():
        raise ValueError("it holds ? # * [ ] :: or a control character: name a plain prefix")
    if match[1] == "file" and not place.startswith("/"):
        raise ValueError("a path after file:// begins with a slash, as in file:///mnt/shared/labels")
    if not place:
        raise ValueError("it names no bucket")
    return f"{match[1]}://{place}"


class Store:
    """Files below a URL, by names such as ``parts/NAME``.

    Raises: UsageError when it needs the network, and nothing may be asked of one; SetupError when the package
        that it needs is not installed. All methods raise StoreError.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = checked(url)
        except ValueError as error:
            raise UsageError(f"The store can't be used: {error}.") from None
        scheme = self.url.split("://")[0]
        if scheme not in LOCAL and offline.forbids_all():
            raise UsageError(
                f"The store {self.url} is in the network, and --offline (or {offline.OURS}) forbids that: "
                f"leave one of them out. {offline.THEIRS[0]}=1 keeps only the model hub away."
            )
        import fsspec  # some tenths of a second, which most commands need not wait for

        try:
            # Others write there as well, so nothing that was listed once is known for ever.
            self._files: Any = fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError:
            package = PACKAGES[scheme]
            raise SetupError(f"The store {self.url} needs a package: pip install {package}") from None
        except Exception as error:  # these packages look for credentials as soon as they are made
            raise StoreError(f"The store {self.url} can't be used: {_reason(error)}. {REMEDY}") from error
        self._root = str(self._files._strip_protocol(self.url))
        self._folder = Path(self._root) if scheme == "file" else None

    def claim(self) -> None:
        """Mark the place as a store, and see that it can be written to, under conditions."""
        mark = b"Finished parts of conversation-annotator, which machines share.\n"
        if self.put_new(folders.MARK, mark) and self.put_new(folders.MARK, mark):
            raise StoreError(
                f"The store {self.url} puts a file in the place of one that it was told to keep (a put with "
                "If-None-Match): it can't be shared. Choose another, or bring its server up to date."
            )

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Names and bytes of the files directly in a folder of the store."""
        path = f"{self._root}/{folder}".rstrip("/")
        with self._one_sentence("listed"):
            try:
                found = self._files.ls(path, detail=True)
            except FileNotFoundError:
                return {}
            return {
                str(entry["name"]).rsplit("/", 1)[-1]: int(entry["size"] or 0)
                for entry in found
                if entry["type"] == "file"
            }

    def read(self, name: str, most: int) -> bytes | None:
        """A file's content; None where there is none, or it has more than ``most`` bytes."""
        with self._one_sentence("read"):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}", start=0, end=most + 1)
            except FileNotFoundError:
                return None
        return content if len(content) <= most else None

    def put_new(self, name: str, content: bytes) -> bool:
        """Put a file where there is none of that name; False where there is."""
        with self._one_sentence("written"):
            try:
                if self._folder is None:
                    self._files.pipe_file(f"{self._root}/{name}", content, mode="create")
                else:
                    _write(self._folder / name, content, os.link)
            except FileExistsError:
                return False
            return True

    def put(self, name: str, content: bytes) -> None:
        """Put a file, in the place of one that may be there."""
        with self._one_sentence("written"):
            if self._folder is None:
                self._files.pipe_file(f"{self._root}/{name}", content)
            else:
                _write(self._folder / name, content, os.replace)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._one_sentence("written"):
            try:
                self._files.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                pass

    @contextmanager
    def _one_sentence(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each package has faults of its own: botocore's, aiohttp's, Google's
            raise StoreError(f"The store {self.url} can't be {done}: {_reason(error)}. {REMEDY}") from error


def _write(path: Path, content: bytes, name: Callable[[Path, Path], None]) -> None:
    """Put a file into a folder whole or not at all.

    fsspec's own way for a folder looks whether there is one and then writes, in the open.

    Args:
        name: gives the finished file its name: ``os.replace``, or ``os.link``, which does so only where there
            is none of that name, on network file systems, too.

    Raises: FileExistsError; OSError, also where the file system knows no links.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        name(temporary, path)
        files.sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Why, in a line without secrets."""
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _SECRETS.sub("***", " ".join(told.split()))[:_LONGEST_REASON].rstrip(".")
