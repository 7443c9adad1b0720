"""Where the diarizers' weights lie, found without importing the packages that carry them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PYANNOTE_MODEL = "pyannote/speaker-diarization-community-1"
# All that the pipeline reads; a folder with less is a download that was cut short.
PYANNOTE_FILES = (
    "config.yaml",
    "segmentation/pytorch_model.bin",
    "embedding/pytorch_model.bin",
    "plda/plda.npz",
    "plda/xvec_transform.npz",
)

# What voices have in common and where they differ; learnt by benchmarks/diarization_voices.py.
VOICES = Path(__file__).with_name("voices.safetensors")


def wheel_file(package: str, *parts: str) -> Path | None:
    """A file inside an installed package, or None if it is not there. The package is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations)), *parts)
    return path if path.is_file() else None


def speech_weights() -> Path | None:
    return wheel_file("silero_vad", "data", "silero_vad_16k.safetensors")


def voice_weights() -> Path | None:
    return wheel_file("resemblyzer", "pretrained.pt")


def missing_embedded_weights() -> str | None:
    """What the embedded diarizer lacks, with the remedy; None if nothing."""
    if speech_weights() is None:
        return (
            "The embedded diarizer needs the voice activity weights in the silero-vad wheel: "
            "pip install silero-vad==6.2.3"
        )
    if voice_weights() is None:
        return (
            "The embedded diarizer needs the speaker embedding weights in the resemblyzer wheel: "
            "pip install --no-deps resemblyzer==0.1.4"
        )
    if not VOICES.is_file():
        return f"The embedded diarizer's file {VOICES.name} is missing: install conversation-annotator again."
    return None


def pyannote_folder(chosen: Path | None) -> Path | None:
    """The folder of a whole pyannote pipeline: the one given, else the model hub's cache; None without."""
    if chosen is not None:
        # A folder of one's own may name other files in its config.yaml.
        return chosen if (chosen / "config.yaml").is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(PYANNOTE_MODEL, name) for name in PYANNOTE_FILES]
    if all(isinstance(path, str) for path in found):
        return Path(str(found[0])).parent
    return None


def missing_pyannote_weights(chosen: Path | None) -> str | None:
    """What the pyannote diarizer lacks, with the remedy; None if nothing."""
    if importlib.util.find_spec("pyannote") is None or importlib.util.find_spec("pyannote.audio") is None:
        return "The pyannote diarizer needs its library: pip install pyannote.audio==4.0.7"
    if pyannote_folder(chosen) is not None:
        return None
    if chosen is not None:
        return f"There is no pyannote pipeline in {chosen} (no config.yaml): give the folder that holds it."
    return (
        f"The pyannote diarizer needs the weights of {PYANNOTE_MODEL}, which its authors give to those who "
        "accept their conditions on the model's page at the Hugging Face hub. Accept them, make a read "
        f"token, and fetch the weights once: `HF_TOKEN=... hf download {PYANNOTE_MODEL}`."
    )
