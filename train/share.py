"""Checkpoints in the layout of a model hub's repository, to push and to load from.

    README.md            CARD.md, whose YAML header the hub reads
    model.json, model.safetensors, and the files of the encoders
    evaluation/          figures and pictures

A repository is ``hf:OWNER/NAME``, or ``hf:OWNER/NAME@REVISION`` for one commit, tag or branch; a local folder
of this layout is a checkpoint as it is.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

from annotator import offline
from annotator.encode import part_file
from annotator.records import SetupError, UsageError
from annotator.weights import checkpoint_folder
from model import CheckpointError
from train.corpus import encoder_files

log = logging.getLogger("annotator")

PREFIX = "hf:"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Nothing else is ever fetched: no pickle, no code.
FETCHED = ["model.json", "*.safetensors", "README.md"]
EVALUATION = (".json", ".csv", ".md", ".html", ".png", ".svg")  # what `annotate evaluate` writes


def share(checkpoint: Path, to: str, *, private: bool = False) -> str:
    """Put a checkpoint into a repository, or into a folder of the same layout. Returns where it is.

    Raises:
        UsageError: the checkpoint or the repository's name is faulty, or the folder holds something else.
        SetupError: the hub can't be reached, or refuses.
    """
    if not to.startswith(PREFIX):
        return str(write_repository(checkpoint, Path(to)))
    repository, revision = parsed(to)
    if offline.is_on():
        raise UsageError(f"{to} can't be written offline: give a folder, or go online.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_repository(checkpoint, Path(scratch) / "repository")
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        try:
            api = HfApi()
            api.create_repo(repository, repo_type="model", private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=str(folder),
                revision=revision,
                commit_message=f"{checkpoint.name}",
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise SetupError(
                f"{repository} can't be written: {first_line(error)}. Log in with `hf auth login`, or set "
                "HF_TOKEN."
            ) from error
    return str(done)


def write_repository(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint into the layout of a repository.

    Raises:
        UsageError: it is no whole checkpoint with a card, or the folder holds something else.
    """
    from model import load_checkpoint  # takes seconds, and who fetches a checkpoint has no use for it

    try:
        known = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise UsageError(str(error)) from error
    card = checkpoint / "CARD.md"
    if not card.is_file() or card.is_symlink():
        raise UsageError(f"{checkpoint} has no CARD.md: nobody should share a model without one.")
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise UsageError(f"{folder} holds something else: choose another folder.")
    copied = {checkpoint / name: folder / name for name in ("model.json", "model.safetensors")}
    copied |= {part_file(name, checkpoint): folder / name for name in encoder_files(known.encoders)}
    copied[card] = folder / "README.md"
    evaluation = checkpoint / "evaluation"
    if evaluation.is_dir() and not evaluation.is_symlink():
        for file in sorted(evaluation.iterdir()):
            if file.suffix in EVALUATION and not file.name.startswith("."):
                copied[file] = folder / "evaluation" / file.name
    for file in copied:
        if file.is_symlink() or not file.is_file():
            raise UsageError(
                f"{file} is a link, or no file of its own: put the file itself there to share it."
            )
    for file, target in copied.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(file, target)
    return folder


def copy_file(file: Path, target: Path) -> None:
    """Copy a file's content, unless it has become a link since it was looked at."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}.") from error
    with open(handle, "rb") as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out)


def checkpoint_from(name: str) -> Path:
    """The folder of a checkpoint: ``starter``, a path, or a repository, which is fetched to the hub's cache.

    Raises:
        UsageError: there is no such checkpoint.
        SetupError: the hub can't be reached, and the cache has no copy.
    """
    if not name.startswith(PREFIX):
        return checkpoint_folder(name)
    repository, revision = parsed(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository, revision=revision, allow_patterns=FETCHED, local_files_only=offline.is_on()
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SetupError(
            f"{repository} can't be fetched: {first_line(error)}. Check its name and the network."
        ) from error
    # The cache names the folder by the commit: who wants the same again asks for it.
    log.info("%s at revision %s", repository, Path(found).name)
    return checkpoint_folder(found)


def parsed(name: str) -> tuple[str, str | None]:
    """Repository and revision of ``hf:OWNER/NAME@REVISION``.

    >>> parsed("hf:me/model@v1")
    ('me/model', 'v1')

    Raises:
        UsageError: it is no such name.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"{name!r} is no repository: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION.")
    return repository, revision or None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
