"""A store that machines share: files below a URL, in an object store or a folder that all of them see.

fsspec reaches object stores, whose packages are the user's to install, and ``memory://`` (of one process, for
tests); ``file://`` is a class of ours, as fsspec's follows links and writes in the open. Only stores are
taken that can put a file under a condition: whole or not at all, and, where that is asked for, only if there
is none of that name.

Credentials are none of our business: the packages read them from the environment and from their own files.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from annotator import offline
from annotator.records import SetupError, UsageError

# By scheme, the package that fsspec needs for it. Others of fsspec's have no conditional put.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "file": None, "memory": None}
LOCAL = ("file", "memory")  # no network
MARK = ".store-of-annotate"  # not that of folders, which says that a command may delete what it is in
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_OLD_S = 86_400.0  # nobody writes a file for a day
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SECRETS = re.compile(r"(?<=//)\S*@|(?<=\?)[^\s\"']+")  # user and password; the query of a signed URL
_LONGEST_REASON = 300  # characters
REMEDY = (
    "See to the address, the network and the credentials; the same command goes on from what is finished."
)


class StoreError(SetupError):
    """The store can't be read or written."""


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is named by a URL, not by a path."""
    return _URL.fullmatch(os.fspath(place)) is not None


def is_address(path: Path) -> bool:
    """Whether somebody gave a URL for a path, which has one slash where the URL had two."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)) is not None


def checked(url: str) -> str:
    """The URL of a store, without slashes at its end.

    Raises: ValueError with a sentence that doesn't repeat what may be a password.
    """
    match = _URL.fullmatch(url)
    if match is None or match[1] not in PACKAGES:
        raise ValueError("it is no URL of a store: s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH")
    place = match[2].rstrip("/")
    first = place.split("/")[0]
    if "@" in first or ":" in first:  # a password may hold a slash
        raise ValueError(
            "it holds a user or a password: leave them out, and give credentials by the environment or the "
            "files that s3fs and gcsfs read"
        )
    if re.search(r"[?#*\[\]]|::", place) or not place.isprintable():
        raise ValueError("it holds ? # * [ ] :: or a control character: name a plain prefix")
    if not place:
        raise ValueError("it names no bucket or folder")
    if match[1] == "file" and not place.startswith("/"):
        raise ValueError("a path after file:// begins with a slash, as in file:///mnt/shared/labels")
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
        self._files: Any
        if scheme not in LOCAL and offline.forbids_all():
            raise UsageError(
                f"The store {self.url} is in the network, and --offline (or {offline.OURS}) forbids that: "
                f"leave one of them out. {offline.THEIRS[0]}=1 keeps only the model hub away."
            )
        if scheme == "file":
            self._root, self._files = "", _Folder(Path(self.url.removeprefix("file://")))
            return
        import fsspec  # some tenths of a second, which most commands need not wait for

        try:
            # Others write there as well, so nothing that was listed once is known for ever.
            self._files = fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError:
            package = PACKAGES[scheme]
            raise SetupError(f"The store {self.url} needs a package: pip install {package}") from None
        except Exception as error:  # these packages look for credentials as soon as they are made
            raise StoreError(f"The store {self.url} can't be used: {_reason(error)}. {REMEDY}") from error
        self._root = str(self._files._strip_protocol(self.url))

    def claim(self) -> None:
        """Mark the place as a store, and see that it can be written to, under conditions.

        Raises: UsageError for a folder that holds something else.
        """
        if isinstance(self._files, _Folder):
            with self._one_sentence("used"):
                self._files.sweep()
                foreign = self._files.foreign()
            if foreign is not None:
                raise UsageError(
                    f"The store {self.url} holds other files ({foreign!r}, for one): name a new or empty "
                    "folder."
                )
        mark = b"Finished parts of conversation-annotator, which machines share.\n"
        if self.put_new(MARK, mark) and self.put_new(MARK, mark):
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
        """A file's content; None where there is no regular one, or it has more than ``most`` bytes."""
        with self._one_sentence("read"):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}", start=0, end=most + 1)
            except FileNotFoundError:
                return None
        return content if len(content) <= most else None

    def read_end(self, name: str, size: int, most: int) -> bytes | None:
        """The last bytes of a file of that size, ``most`` at most; None where there is no regular one."""
        with self._one_sentence("read"):
            try:
                path = f"{self._root}/{name}"
                end: bytes = self._files.cat_file(path, start=max(0, size - most), end=size)
            except FileNotFoundError:
                return None
        return end

    def put_new(self, name: str, content: bytes) -> bool:
        """Put a file where there is none of that name; False where there is."""
        with self._one_sentence("written"):
            try:
                self._files.pipe_file(f"{self._root}/{name}", content, mode="create")
            except FileExistsError:
                return False
            return True

    def put(self, name: str, content: bytes) -> None:
        """Put a file, in the place of one that may be there."""
        with self._one_sentence("written"):
            self._files.pipe_file(f"{self._root}/{name}", content)

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


class _Folder:
    """A folder that machines see, with the methods of fsspec's file systems that a store asks for.

    Others may write there, so no link below it is followed, nothing is opened that is no regular file, and a
    file is put whole or not at all.

    Args:
        root: paths are ``/NAME`` and ``/FOLDER/NAME`` below it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def ls(self, path: str, detail: bool = True) -> list[dict[str, Any]]:
        with self._opened(path.strip("/")) as folder, os.scandir(folder) as found:
            regular = [entry for entry in found if entry.is_file(follow_symlinks=False)]
            return [{"name": e.name, "size": _size(e), "type": "file"} for e in regular]

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        with self._around(path) as (folder, name):
            try:
                # A pipe would else wait for somebody to write into it.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                opened = os.open(name, flags, dir_fd=folder)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise FileNotFoundError(errno.ENOENT, "it is a link") from error
                raise
            with open(opened, "rb") as file:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise FileNotFoundError(errno.ENOENT, "it is no regular file")
                file.seek(start)
                return file.read(end - start)

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        """Raises: FileExistsError with the mode ``create``; OSError, also where there are no hard links."""
        with self._around(path, make=True) as (folder, name):
            temporary = f".{name}.{secrets.token_hex(8)}.tmp"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                both = {"src_dir_fd": folder, "dst_dir_fd": folder}
                if mode == "create":  # only where there is none of that name, on network file systems, too
                    os.link(temporary, name, **both, follow_symlinks=False)
                else:
                    os.replace(temporary, name, **both)
                os.fsync(folder)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)

    def rm_file(self, path: str) -> None:
        with self._around(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def foreign(self) -> str | None:
        """A file or folder in a place that is no store; None where it is one, or empty, or not there."""
        try:
            with self._opened("") as root:
                names = [name for name in os.listdir(root) if not _TEMPORARY.fullmatch(name)]
                # After the listing: another machine may be marking it, which it does before all else.
                marked = MARK in os.listdir(root)
        except FileNotFoundError:
            return None
        return None if marked or not names else min(names)

    def sweep(self) -> None:
        """Remove what machines that were killed while they wrote have left behind."""
        for below in ("", "parts", "failures"):
            with suppress(FileNotFoundError), self._opened(below) as folder, os.scandir(folder) as found:
                for entry in found:
                    with suppress(FileNotFoundError):  # another machine sweeps, too
                        if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_S:
                                os.unlink(entry.name, dir_fd=folder)

    @contextmanager
    def _around(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder of a file, open, and the file's name in it."""
        below, _, name = path.strip("/").rpartition("/")
        with self._opened(below, make=make) as folder:
            yield folder, name

    @contextmanager
    def _opened(self, below: str, *, make: bool = False) -> Iterator[int]:
        """The root, or a folder directly below it, open."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if make:
            self._root.mkdir(parents=True, exist_ok=True)
        root = folder = os.open(self._root, flags)
        try:
            if below:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(below, dir_fd=root)
                try:
                    folder = os.open(below, flags | os.O_NOFOLLOW, dir_fd=root)
                except NotADirectoryError:
                    raise NotADirectoryError(
                        errno.ENOTDIR, f"{below} in it is a file or a link, which no run makes: remove it"
                    ) from None
            try:
                yield folder
            finally:
                if folder != root:
                    os.close(folder)
        finally:
            os.close(root)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # gone since it was listed
        return 0


def _reason(error: Exception) -> str:
    """Why, in a line without secrets."""
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _SECRETS.sub("***", " ".join(told.split()))[:_LONGEST_REASON].rstrip(".")
