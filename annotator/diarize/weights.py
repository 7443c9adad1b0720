"""Where the diarizers' weights lie, found without importing the packages that carry them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from annotator.fetch import part_folder
from annotator.weights import cache_folder
from annotator.wheels import own_file

PYANNOTE_MODEL = "pyannote/speaker-diarization-community-1"
PYANNOTE_REVISION = "3533c8cf8e369892e6b79ff1bf80f7b0286a54ee"
PYANNOTE_MB, PYANNOTE_LICENCE = 33, "CC BY 4.0"
HOW_TO_GET_PYANNOTE = (
    f"The weights of {PYANNOTE_MODEL} are given to those who accept their authors' conditions: do so on "
    f"https://huggingface.co/{PYANNOTE_MODEL} with an account there. Then make a read token in its settings, "
    "put it into the environment as HF_TOKEN (or run `hf auth login`), and run `annotate download pyannote`."
)
# All that the pipeline reads; a folder with less is a download that was cut short.
PYANNOTE_FILES = (
    "config.yaml",
    "segmentation/pytorch_model.bin",
    "embedding/pytorch_model.bin",
    "plda/plda.npz",
    "plda/xvec_transform.npz",
)

# How a voice changes with its mood; learnt by benchmarks/diarization_voices.py.
VOICES = Path(__file__).with_name("voices.safetensors")


# pyannote's segmentation-3.0 (MIT) and 3D-Speaker's CAM++ (Apache-2.0): THIRD_PARTY_LICENSES.
ACTIVITY = own_file(
    "annotator.diarize",
    "segmentation.safetensors",
    "98112d10a80ba3ff572f1cf5b78f851febd15a2bba79b4d535e9391a21dba4b4",
)
VOICE = own_file(
    "annotator.diarize",
    "campplus.safetensors",
    "56e5b224bf84b7fc15a41e1e1ff00a66ee0df4f019d088229b88bde15ea34b82",
)


def missing_embedded_weights() -> str | None:
    """What the embedded diarizer lacks, with the remedy; None if nothing."""
    lacking = [file.path for file in (ACTIVITY, VOICE) if file.find() is None]
    if not VOICES.is_file():
        lacking.append(VOICES.name)
    return f"The embedded diarizer lacks {', '.join(lacking)}. {VOICE.remedy}" if lacking else None


def own_pyannote_folder() -> Path:
    """Where the pipeline lies after `annotate download pyannote`."""
    return part_folder(cache_folder(), PYANNOTE_MODEL, PYANNOTE_REVISION)


def pyannote_folder(chosen: Path | None) -> Path | None:
    """The folder of a whole pyannote pipeline: the one given, else our cache, else the model hub's cache."""
    if chosen is not None:
        # A folder of one's own may name other files in its config.yaml.
        return chosen if (chosen / "config.yaml").is_file() else None
    if all((own_pyannote_folder() / name).is_file() for name in PYANNOTE_FILES):
        return own_pyannote_folder()
    from huggingface_hub import constants

    # The rest of that library takes a fifth of a second, for a cache that most machines do not have.
    if not Path(constants.HF_HUB_CACHE, f"models--{PYANNOTE_MODEL.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(PYANNOTE_MODEL, name, revision=PYANNOTE_REVISION) for name in PYANNOTE_FILES
    ]
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
    return HOW_TO_GET_PYANNOTE
