"""Fixtures shared by the tests: where the optional data lie, and an ffmpeg to make media with."""

from __future__ import annotations

import os
from pathlib import Path

import imageio_ffmpeg
import pytest
from hypothesis import Phase, settings

# The same examples in every run: what fails is the fault of what was changed. `make fuzz` looks elsewhere.
settings.register_profile("same", derandomize=True)
# The first example that fails is enough for benchmarks/mutation.py: no search for the smallest.
settings.register_profile("first", derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("same")

ROOT = Path(__file__).resolve().parents[1]

# Whole runs and trainings: with several processes, what comes last would keep one of them busy alone.
LONGEST = (
    "test_run",
    "test_starter",
    "test_people",
    "test_whole_path",
    "test_prepare",
    "test_transcript_cases",
    "test_finetune",
    "test_talking_faces",
    "test_other_encoders",
    "test_hostile",
    "test_adapter",
    "test_loop",
    "test_diarize",
    "test_missing_modalities",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


# No test may reach a model hub, and none may wait for one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Public corpora beside the project; tests that need them are skipped where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public corpora are not beside the project (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The ffmpeg that comes with imageio-ffmpeg, to make test media with."""
    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path
