"""Checkpoints and data sets in repositories of a hub.

A repository is ``hf:OWNER/NAME``, or ``hf:OWNER/NAME@REVISION`` for one commit, tag or branch.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from annotator import offline
from annotator.records import SetupError, UsageError

log = logging.getLogger("annotator")

PREFIX = "hf:"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Nothing else is ever fetched: no pickle, no code.
FETCHED = ["model.json", "*.safetensors", "README.md"]


def fetched(name: str) -> Path:
    """The folder of a repository's checkpoint, in the hub's cache.

    Raises:
        UsageError: it is no name of a repository.
        SetupError: the hub can't be reached, and the cache has no copy.
    """
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
    return Path(found)


@contextmanager
def upload(
    to: str, kind: Literal["model", "dataset"], message: str, *, private: bool
) -> Iterator[tuple[Path, list[str]]]:
    """A folder for the body to fill, which then becomes a commit in the repository ``to``; and a list, which
    then has the commit's address. A repository that is not there is made.

    Args:
        private: a new repository is not public.

    Raises:
        UsageError: it is no name of a repository, or nothing may go online.
        SetupError: the hub can't be reached, or refuses.
    """
    repository, revision = parsed(to)
    if offline.is_on():
        raise UsageError(f"{to} can't be written offline: give a folder, or go online.")
    done: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "repository"
        yield folder, done
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        try:
            api = HfApi()
            api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                repo_type=kind,
                folder_path=str(folder),
                revision=revision,
                commit_message=message,
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise SetupError(
                f"{repository} can't be written: {first_line(error)}. Log in with `hf auth login`, or set "
                "HF_TOKEN."
            ) from error
    done.append(str(commit))


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
