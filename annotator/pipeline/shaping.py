"""What shapes the rows of a recording beside itself: settings, weights, versions, files beside it.

Kept results are known by it: where any of it is another, what it shapes is made anew.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annotator import encode, media, weights
from annotator.pipeline.recordings import label
from annotator.pipeline.stages import Backends
from annotator.settings import RunSettings

PREPARED_FORMAT = 10  # raised when a stage before the network changes what it gives
# Another version of one of these may give other features.
SHAPING_LIBRARIES = (
    "conversation-annotator",
    "torch",
    "transformers",
    "opensmile",
    "ctranslate2",
    "opencv-python-headless",
    "py3langid",
    "sentencepiece",
    "pyannote.audio",
    "torchaudio",
)
NETWORK_FILES = {
    "model.json",
    "model.safetensors",
}  # of a checkpoint: they shape its parts, not what is prepared
NAMING = {".rttm", ".ctm"}  # endings of files beside a recording that may be of several, by their names


def installed(names: Sequence[str]) -> dict[str, str]:
    """Versions of distributions; ``not installed`` for those that are absent."""

    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    return {name: version(name) for name in names}


def shaped_by(
    s: RunSettings,
    b: Backends,
    encoders: Mapping[str, Any],
    folder: Path,
    text_languages: Sequence[str] | None = None,
) -> dict[str, Any]:
    """By stage, all that decides what it gives, beside the recording itself, as JSON values: see kept.py.

    The whole decides what is prepared of a recording.
    """
    made_by = {"format": PREPARED_FORMAT, "versions": installed(SHAPING_LIBRARIES)}
    look = made_by | {
        "face_detector": b.face_detector,
        "yunet": media.content_hash(b.yunet_file) if b.yunet_file else None,
        "frame_rate": s.frame_rate,
    }
    turns = made_by | {
        "diarizer": b.diarizer,
        "pyannote_folder": weights.tree_hash(s.pyannote_folder) if b.diarizer == "pyannote" else None,
        "speakers": [s.speakers, s.min_speakers, s.max_speakers],
        "channels": s.channels,
        "watched": "face" in s.modalities and "face" in encoders,  # it shares its time with the pictures
    }
    found = {
        "look": look,
        "turns": turns,
        "transcriber": b.transcriber,
        "whisper": b.whisper.fingerprint if b.whisper else None,
        "link_speakers": s.link_speakers,
        "sidecars": [b.take_sidecar_turns, b.take_subtitles],
        "language": s.language,
        "audio_track": s.audio_track,
        "subtitle_track": s.subtitle_track,
        "dialogue_gap": s.dialogue_gap,
        "modalities": s.modalities,
    }
    return {
        "look": look,
        "turns": turns,
        "found": found,
        **{
            modality: {
                "found": found,
                "encoder": spec,
                "versions": encode.versions({modality: spec}),
                "files": files_behind(spec, folder),
                "languages": text_languages if modality == "text" else None,
            }
            for modality, spec in encoders.items()
        },
    }


def files_behind(spec: Mapping[str, Any], folder: Path) -> dict[str, str | None]:
    """SHA-256 of the files that an encoder reads: those beside the checkpoint that its description names, all
    of them for an encoder of another package, and the folder of a Hugging Face model.
    """
    beside = {path.name: path for path in folder.iterdir() if path.is_file()}
    ours = spec.get("name") in encode.ENCODERS
    names = named_in(spec) & set(beside) if ours else set(beside) - NETWORK_FILES
    found: dict[str, str | None] = {name: media.content_hash(beside[name]) for name in sorted(names)}
    for one in (spec, spec.get("second")):
        if isinstance(one, Mapping) and one.get("name") == "hf" and isinstance(one.get("path"), str):
            found[one["path"]] = weights.tree_hash(folder / one["path"])
    return found


def named_in(spec: Any) -> set[str]:
    """All texts in an encoder's description; names of files beside the checkpoint are among them."""
    if isinstance(spec, Mapping):
        return {name for value in spec.values() for name in named_in(value)}
    if isinstance(spec, list | tuple):
        return {name for value in spec for name in named_in(value)}
    return {spec} if isinstance(spec, str) else set()


def beside_key(path: Path, recording: Path, content: str) -> list[str | None]:
    """What of a file beside a recording shapes its rows, for the key. Its name tells its language.

    Of several recordings in one file, that of the recording's name is taken: then the name counts as well.
    """
    named = recording.stem if path.suffix.lower() in NAMING else None
    return [label(path.name, recording.name), content, named]
