"""Where Whisper's weights come from: a folder, the cache, the model hub's cache, or the hub, pinned."""

from __future__ import annotations

from pathlib import Path

from annotator.fetch import fetch_repository, part_folder
from annotator.records import SetupError
from annotator.weights import cache_folder

# Weights as safetensors only. The large one runs faster than real time on a GPU, the small one on a CPU.
REVISIONS = {
    "openai/whisper-large-v3-turbo": "41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
    "openai/whisper-small": "973afd24965f72e36ca33b3055d56a652f456b4d",
}
SIZES_MB = {"openai/whisper-large-v3-turbo": 1620, "openai/whisper-small": 970}
LICENCES = {"openai/whisper-large-v3-turbo": "MIT", "openai/whisper-small": "Apache-2.0"}
FILES = ("*.json", "merges.txt", "*.safetensors")


def repository(device: str) -> str:
    """The Whisper that suits a device (``cpu``, ``cuda``, ``cuda:N``, ``mps``)."""
    return "openai/whisper-large-v3-turbo" if device.startswith("cuda") else "openai/whisper-small"


def missing_weights(folder: Path | None, device: str) -> str | None:
    """None if Whisper's weights are on this machine, else a sentence that says how to get them."""
    if folder is not None:
        lacking = _lacking(folder)
        return (
            f"{folder} lacks {', '.join(lacking)}: give the folder of a Whisper in safetensors."
            if lacking
            else None
        )
    names = list(REVISIONS) if device == "auto" else [repository(device)]
    if any(cached(name) for name in names):
        return None
    return (
        f"Whisper's weights ({names[0]}, {SIZES_MB[names[0]]} MB) are not on this machine: run "
        "`annotate download whisper` once with a network, or put subtitles of the same name beside the "
        "recordings."
    )


def find_weights(folder: Path | None, device: str, offline: bool) -> Path:
    """The folder of Whisper's weights and tokenizer, fetched first if need be.

    Raises: SetupError with the remedy if they are not to be had.
    """
    if folder is not None:
        if problem := missing_weights(folder, device):
            raise SetupError(problem)
        return folder
    name = repository(device)
    if found := cached(name):
        return found
    if offline:
        raise SetupError(missing_weights(None, device) or f"{name} is not on this machine.")
    fetched = fetch_repository(name, REVISIONS[name], FILES, own_folder(name))
    if lacking := _lacking(fetched):
        raise SetupError(
            f"The model hub's copy of {name} lacks {', '.join(lacking)}: delete {fetched} and try again."
        )
    return fetched


def own_folder(name: str) -> Path:
    """Where a Whisper lies after `annotate download`."""
    return part_folder(cache_folder(), name, REVISIONS[name])


def cached(name: str) -> Path | None:
    """The folder of a whole Whisper at its pinned revision, in our cache or the model hub's."""
    if not _lacking(own_folder(name)):
        return own_folder(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=REVISIONS[name], local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return None if _lacking(folder) else folder


def _lacking(folder: Path) -> list[str]:
    """Which files of a Whisper a folder does not have."""
    lacking = [f for f in ("config.json", "preprocessor_config.json") if not (folder / f).is_file()]
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        lacking.append("tokenizer.json")
    if not any(folder.glob("*.safetensors")):
        lacking.append("model.safetensors")
    return lacking
