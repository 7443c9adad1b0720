"""Who may import whom, and docs/architecture.md: its drawing and its example."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import grimp
import polars as pl
import pytest

from annotator import cli
from model import load_checkpoint
from train.corpus import load_corpus

from .media import subtitles

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


# docs/architecture.md


SAID = [("Ana", "How lovely."), ("Ben", "Leave me alone.")] * 4
SPLITS = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
LABELS = ["joy", "anger"] * 4
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The page's fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def arrows() -> list[tuple[str, str]]:
    """The drawing's arrows, as full names of modules."""
    (drawing,) = blocks("mermaid")
    lines = [line for line in drawing.splitlines() if "-->" in line]
    found = [re.fullmatch(r' +(\w+) -->\|"[^"]+"\| (\w+)', line) for line in lines]
    assert all(found), lines
    return [(named(match[1]), named(match[2])) for match in found if match]


def named(room: str) -> str:
    return room if room in PACKAGES else f"annotator.{room}"


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def test_each_arrow_of_the_drawing_is_an_import(graph: grimp.ImportGraph) -> None:
    assert len(arrows()) > 10
    for importer, imported in arrows():
        assert {importer, imported} <= graph.modules
        sources = {importer, *graph.find_descendants(importer)}
        targets = {imported, *graph.find_descendants(imported)}
        assert any(targets & graph.find_modules_directly_imported_by(source) for source in sources), (
            f"{importer} does not import {imported}"
        )


def test_every_stage_is_in_the_drawing() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    stages = next(layer for layer in contracts[0]["layers"] if "utterances" in layer)
    assert {f"annotator.{stage}" for stage in stages.split(" | ")} < {
        name for pair in arrows() for name in pair
    }


def test_every_room_is_in_the_table_of_rooms(graph: grimp.ImportGraph) -> None:
    rooms = re.findall(
        r"^\| `(\w+)` \|.*\| (?:top|below it|middle|stage|ground|bottom) \|$", PAGE, re.MULTILINE
    )
    assert sorted(f"annotator.{room}" for room in rooms) == sorted(graph.find_children("annotator"))


def test_the_example_of_an_encoder_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page says: a package is built and found, a corpus prepared, a network trained, and run."""
    package = tmp_path / "loudness"
    package.mkdir()
    (package / "loudness.py").write_text(blocks("python")[0])
    (package / "pyproject.toml").write_text(blocks("toml")[0])
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=package, check=True, capture_output=True, timeout=60)
    site = tmp_path / "site"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    monkeypatch.syspath_prepend(site)  # where pip would have put it

    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(ROOT / "examples" / "recordings" / "call.m4a", videos)
    cues = [(2.0 + 3 * i, 4.5 + 3 * i, f"{who}: {text}") for i, (who, text) in enumerate(SAID)]
    subtitles(videos / "call.srt", cues)
    rows = [
        f"call.m4a,{split},{start},{end},{text.split(': ')[0]},{text.split(': ')[1]},{label},{split}"
        for split, label, (start, end, text) in zip(SPLITS, LABELS, cues, strict=True)
    ]
    header = "file,dialogue,start,end,speaker,text,label,split"
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows, ""]))
    monkeypatch.chdir(tmp_path)
    for line in blocks("sh")[0].splitlines():
        more = {"prepare": ["--shared-speakers"], "train": ["--epochs", "2"], "run": ["--workers", "1"]}
        command, *arguments = line.split()[1:]
        monkeypatch.setattr(sys, "argv", ["annotate", command, *arguments, *more[command]])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, line

    assert load_corpus(tmp_path / "corpus").features["audio"].values.shape == (len(SAID), 3)
    assert load_checkpoint(tmp_path / "my.ckpt").encoders["audio"] == {"name": "loudness"}
    table = pl.read_parquet(tmp_path / "labels.parquet")
    assert table.height == len(SAID) and table["has_audio"].all() and table["audio_emotion"].null_count() == 0
    kept = json.loads((tmp_path / "labels.run.json").read_text())
    assert kept["counts"]["annotated_now"] == 1
