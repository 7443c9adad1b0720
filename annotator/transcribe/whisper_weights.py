"""Where Whisper's weights come from: a folder, the model hub's cache, or the hub at a pinned revision."""

from __future__ import annotations

from pathlib import Path

from annotator.records import SetupError

# Weights as safetensors only. The large one runs faster than real time on a GPU, the small one on a CPU.
REVISIONS = {
    "openai/whisper-large-v3-turbo": "41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
    "openai/whisper-small": "973afd24965f72e36ca33b3055d56a652f456b4d",
}
SIZES_MB = {"openai/whisper-large-v3-turbo": 1620, "openai/whisper-small": 970}
_FILES = ["*.json", "merges.txt", "*.safetensors"]
_HUB_S = 5  # seconds that the hub has to answer in


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
    if any(_cached(name) for name in names):
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
    if cached := _cached(name):
        return cached
    if offline:
        raise SetupError(missing_weights(None, device) or f"{name} is not on this machine.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        fetched = Path(
            snapshot_download(name, revision=REVISIONS[name], allow_patterns=_FILES, etag_timeout=_HUB_S)
        )
    except (OSError, HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SetupError(
            f"The model hub did not give {name} ({reason}). Try again with a network, or give its folder."
        ) from None
    if lacking := _lacking(fetched):
        raise SetupError(
            f"The model hub's copy of {name} lacks {', '.join(lacking)}: clear {fetched} and try again."
        )
    return fetched


def _cached(name: str) -> Path | None:
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
