"""Who may import whom: the contracts in pyproject.toml hold, and each refuses what it is there for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("annotator", "model", "train")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files of the project and its contracts, to be changed at will."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return copy


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("file", "line", "refused"),
    [
        ("annotator/levels.py", "from annotator import pipeline", "annotator.levels -> annotator.pipeline"),
        ("annotator/records.py", "from annotator import bounds", "annotator.records -> annotator.bounds"),
        (
            "annotator/faces/track.py",
            "from annotator import media",
            "annotator.faces.track -> annotator.media",
        ),
        ("annotator/pipeline/job.py", "from annotator import cli", "annotator.pipeline.job -> annotator.cli"),
        ("annotator/wheels.py", "from annotator import hub, whisper_files", "No two rooms of the tool need"),
        ("annotator/encode/text.py", "import model.loss", "annotator.encode.text -> model.loss"),
        ("annotator/table.py", "import train.resume", "annotator.table -> train.resume"),
        ("model/loss.py", "from annotator import records", "model.loss -> annotator.records"),
        ("train/loop.py", "from annotator import predict", "train.loop -> annotator.predict"),
        ("train/prepare/meld.py", "import annotator.pipeline", "train.prepare.meld -> annotator.pipeline"),
    ],
)
def test_a_forbidden_import_is_refused_and_named(source: Path, file: str, line: str, refused: str) -> None:
    whole = (source / file).read_text(encoding="utf-8")
    (source / file).write_text(f"{whole}\n{line}\n", encoding="utf-8")
    try:
        ended = lint_imports(source)
    finally:
        (source / file).write_text(whole, encoding="utf-8")
    assert ended.returncode == 1
    assert refused in ended.stdout, ended.stdout


def test_a_room_that_has_no_place_is_refused(source: Path) -> None:
    (source / "annotator" / "attic.py").write_text("", encoding="utf-8")
    try:
        ended = lint_imports(source)
    finally:
        (source / "annotator" / "attic.py").unlink()
    assert ended.returncode == 1 and "annotator.attic" in ended.stdout


def test_the_project_keeps_its_contracts(source: Path) -> None:
    ended = lint_imports(source)
    assert ended.returncode == 0, ended.stdout
