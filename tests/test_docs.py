"""The documentation: generated pages are up to date, and the commands of the guides run on small inputs."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml

from .browser import Browser
from .media import subtitles, talk

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SHELL = ("sh", "bash", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    kind: str
    text: str
    why_not: str | None  # the reason that it can't run here

    def __str__(self) -> str:
        return f"{self.page.relative_to(DOCS)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(content):
        line = content.count("\n", 0, match.start("kind")) + 1
        found.append(Block(page, line, match["kind"], match["text"], match["why"]))
    return found


ALL = [block for page in GUIDES for block in blocks(page)]
COMMANDS = [block for block in ALL if block.kind in SHELL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small recordings, in which the commands of all guides run one after another."""
    folder = tmp_path_factory.mktemp("guides")
    (folder / "videos").mkdir()
    for number in range(3):
        recording = talk(folder / "videos" / f"talk{number}.wav", 3, seed=number)
        spoken = [(0.2, 1.2, f"ANN{number}: Number {number}."), (1.5, 2.5, f"BEN{number}: So what?")]
        subtitles(recording.with_suffix(".srt"), spoken)
    return folder


def correct(folder: Path) -> None:
    """What a reader does in the page, and a browser then saves."""
    table = pl.read_parquet(folder / "labels.parquet")
    assert table.height == 6
    found = table.select("file", "dialogue_id", "start", "end", "speaker", "text")
    found = found.with_columns(emotion=pl.Series(["joy", "anger"] * 3), status=pl.lit("relabelled"))
    found.write_csv(folder / "corrections.csv")


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_commands_of_a_guide_run(page: Path, folder: Path) -> None:
    """The run of the first guide is there for the others: they find its recordings done already."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks(page):
        if block.kind not in SHELL or block.why_not is not None:
            continue
        if "corrections.csv" in block.text and not (folder / "corrections.csv").exists():
            correct(folder)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=folder,
            env=os.environ | {"PATH": search, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ended.returncode == 0, f"{block}: {ended.stdout[-500:]}{ended.stderr[-1500:]}"


@pytest.mark.parametrize("block", [b for b in COMMANDS if b.why_not is not None], ids=str)
def test_commands_that_need_more_than_this_machine_are_shell(block: Block) -> None:
    ended = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert ended.returncode == 0, f"{block}: {ended.stderr}"
    assert block.why_not and len(block.why_not.split()) >= 2


@pytest.mark.parametrize("block", ALL, ids=str)
def test_options_in_the_guides_exist(block: Block) -> None:
    """Of commands that can't run here, too."""
    known = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8").split("\n## annotate ")
    of = {part.split("\n")[0]: part for part in known}
    for command, rest in re.findall(r"annotate (\w+)((?:[^\n]|(?<=\\)\n)*)", block.text):
        if block.kind not in (*SHELL, "yaml") or command not in of:
            continue
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest.partition(" #")[0]):
            assert f"`{option}`" in of[command], f"{block}: annotate {command} has no {option}"


@pytest.mark.parametrize("block", [b for b in ALL if b.kind == "yaml"], ids=str)
def test_manifests_are_yaml(block: Block) -> None:
    job = yaml.safe_load(block.text)
    assert {"apiVersion", "kind", "metadata", "spec"} <= set(job)
    for container in job["spec"]["template"]["spec"]["containers"]:
        ended = subprocess.run(["bash", "-n"], input=container["args"][0], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert f"/{job['spec']['completions']} " in container["args"][0], "--shard i/N has the N of the Job"


def test_every_kind_of_block_is_looked_at() -> None:
    assert {block.kind for block in ALL} <= {*SHELL, "yaml", "text", "toml", "csv", "python"}
    assert any(block.why_not is None for block in COMMANDS)


def test_generated_pages_are_up_to_date() -> None:
    written = runpy.run_path(str(DOCS / "reference" / "generate.py"))["pages"]()
    for name, text in written.items():
        found = (DOCS / "reference" / name).read_text(encoding="utf-8")
        assert found == text, f"{name}: run python docs/reference/generate.py"


def test_the_site_takes_nothing_from_other_hosts_and_fits_a_phone(tmp_path: Path) -> None:
    """A strict build: no broken link, every page of the navigation there."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    ended = subprocess.run(
        command,
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        content = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//", content), page
        assert not re.search(r"<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+(?:https?:)?//", content), page
    with Browser(tmp_path / "browser") as browser:
        for name in ("index.html", "table.html", "reference/commands.html"):
            grounds = []
            for scheme in ("light", "dark"):
                browser.resize(400, 900, scheme)
                browser.open(tmp_path / "site" / name)
                root = "document.documentElement"
                assert browser.run(f"{root}.scrollWidth <= {root}.clientWidth"), name
                grounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
                link = browser.run("getComputedStyle(document.querySelector('article a')).color")
                assert link != "rgb(0, 148, 133)", "the theme's teal, which is too light to read"
            assert grounds[0] != grounds[1], name
            assert browser.errors == [], name
    shutil.rmtree(tmp_path / "site")
