"""Checkpoints into the layout of a model hub's repository, see ``annotator/hub.py``.

    README.md            CARD.md, whose YAML header the hub reads
    model.json, model.safetensors, and the files of the encoders
    evaluation/          figures and pictures

A local folder of this layout is a checkpoint as it is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from annotator.encode import part_file
from annotator.hub import PREFIX, upload
from annotator.records import UsageError
from model import CheckpointError
from train.corpus import encoder_files

EVALUATION = (".json", ".csv", ".md", ".html", ".png", ".svg")  # what `annotate evaluate` writes


def share(checkpoint: Path, to: str, *, private: bool = False) -> str:
    """Put a checkpoint into a repository, or into a folder of the same layout. Returns where it is.

    Raises:
        UsageError: the checkpoint or the repository's name is faulty, or the folder holds something else.
        SetupError: the hub can't be reached, or refuses.
    """
    if not to.startswith(PREFIX):
        return str(write_repository(checkpoint, Path(to)))
    with upload(to, "model", checkpoint.name, private=private) as (folder, done):
        write_repository(checkpoint, folder)
    return done[0]


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
