"""Files that carry the SHA-256 of their own content, so that a flipped bit is seen before they are used.

The seal is one value among a file's metadata, of a length that does not change: it is written as a random
word first, and then replaced in place by the hash of the file with zeros in its place. So the file stays what
it is, Parquet or safetensors, and there is no second file that could go astray.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from mmap import mmap
from pathlib import Path

KEY = "seal"  # in a file's metadata
_MARK = b"sha256-with-zeros-here:"
_DIGITS = 64
_SEAL = re.compile(re.escape(_MARK) + rb"([0-9a-f]{64})")
_NEAR_THE_ENDS = 8  # a text in the file may look like a seal; the metadata are before or behind all text


def blank() -> str:
    """A value for a file's metadata that :func:`close` will find."""
    return _MARK.decode() + secrets.token_hex(_DIGITS // 2)


def close(path: Path, blank: str) -> None:
    """Put the hash into a file that was written with ``blank`` among its metadata.

    Raises: ValueError when it is not there exactly once.
    """
    word = blank.encode()
    with open(path, "r+b") as file, mmap(file.fileno(), 0) as content:  # it may be larger than memory
        at = content.find(word)
        if at < 0 or content.find(word, at + 1) >= 0:
            raise ValueError(f"{path} was not written with a place for its hash")
        at += len(_MARK)
        content[at : at + _DIGITS] = b"0" * _DIGITS
        content[at : at + _DIGITS] = hashlib.sha256(content).hexdigest().encode()


def is_whole(whole: bytes | mmap) -> bool:
    """Whether a sealed file is as it was written."""
    content = memoryview(whole)
    found = list(_SEAL.finditer(content))
    for match in found if len(found) <= 2 * _NEAR_THE_ENDS else _ends(found):
        digest = hashlib.sha256(content[: match.start(1)])
        digest.update(b"0" * _DIGITS)
        digest.update(content[match.end(1) :])
        if digest.hexdigest().encode() == match[1]:
            return True
    return False


def _ends(found: list[re.Match[bytes]]) -> list[re.Match[bytes]]:
    return found[:_NEAR_THE_ENDS] + found[-_NEAR_THE_ENDS:]
