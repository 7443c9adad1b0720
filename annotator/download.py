"""Pretrained parts fetched ahead of a run, at pinned revisions: ``annotate download``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from annotator import fetch, whisper_files
from annotator.device import resolve_device
from annotator.diarize import weights as diarizers
from annotator.records import SetupError, UsageError
from annotator.weights import YUNET, cache_folder, yunet_file


def _whisper(device: str, progress: bool) -> Iterator[str]:
    wanted = whisper_files.download_for(resolve_device(device) if device == "auto" else device)
    if wanted.is_here:
        yield f"whisper: already there: {wanted.folder}"
        return
    yield (
        f"whisper: {wanted.repository} at {wanted.revision[:12]}, {wanted.megabytes} MB, "
        f"licence {wanted.licence}"
    )
    with _bar("whisper", progress) as on_bytes:
        folder = whisper_files.fetch_download(wanted, on_bytes)
    yield f"whisper: {folder}"


def _pyannote(device: str, progress: bool) -> Iterator[str]:
    if found := diarizers.pyannote_folder(None):
        yield f"pyannote: already there: {found}"
        return
    yield (
        f"pyannote: {diarizers.PYANNOTE_MODEL} at {diarizers.PYANNOTE_REVISION[:12]}, about "
        f"{diarizers.PYANNOTE_MB} MB, licence {diarizers.PYANNOTE_LICENCE}"
    )
    try:
        with _bar("pyannote", progress) as on_bytes:
            folder = fetch.fetch_repository(
                diarizers.PYANNOTE_MODEL,
                diarizers.PYANNOTE_REVISION,
                diarizers.PYANNOTE_FILES,
                diarizers.own_pyannote_folder(),
                on_bytes,
            )
    except fetch.Refused as error:
        raise SetupError(diarizers.HOW_TO_GET_PYANNOTE) from error
    yield f"pyannote: {folder}"


def _yunet(device: str, progress: bool) -> Iterator[str]:
    if found := yunet_file():
        yield f"yunet: already there: {found}"
        return
    yield f"yunet: {YUNET.url}, {YUNET.size / 1e6:.1f} MB, licence Apache-2.0"
    with _bar("yunet", progress) as on_bytes:
        folder = fetch.fetch([YUNET], cache_folder() / "yunet", on_bytes)
    yield f"yunet: {folder / YUNET.path}"


PARTS: dict[str, Callable[[str, bool], Iterator[str]]] = {
    "yunet": _yunet,
    "whisper": _whisper,
    "pyannote": _pyannote,
}


def download(parts: Sequence[str], device: str, *, progress: bool = True) -> Iterator[str]:
    """Fetch parts; yields a line before and after each. No names mean all that can be had.

    A gated part that was not asked for by name, and is not given without a token, is explained and left out.

    Raises: UsageError for an unknown part; SetupError when a source does not give one.
    """
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"Unknown part {part!r}: choose from {', '.join(PARTS)}.")
    for part in parts or PARTS:
        try:
            yield from PARTS[part](device, progress)
        except SetupError as error:
            if parts or not isinstance(error.__cause__, fetch.Refused):
                raise
            yield f"{part}: left out. {error}"


@contextmanager
def _bar(part: str, progress: bool) -> Iterator[Callable[[int], None]]:
    """Bytes that have come, on a terminal."""
    from tqdm import tqdm

    with tqdm(
        desc=part, unit="B", unit_scale=True, unit_divisor=1000, disable=None if progress else True
    ) as bar:

        def on_bytes(count: int) -> None:
            bar.update(count)

        yield on_bytes
