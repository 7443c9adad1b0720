"""Runs of the command, and what they leave."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from annotator.folders import MARK
from tests.media import subtitles, talk

ANNOTATE = [sys.executable, "-m", "annotator", "run"]
WORKERS = 2
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Sizes:
    """How much is tried."""

    recordings: int = 60
    kills: int = 40
    signals: int = 5  # of each kind
    worker_kills: int = 12
    stops: int = 20
    changes: int = 10  # of files beside recordings
    flips: int = 20  # files of a work folder with a bit flipped
    finetune_kills: int = 10
    many: int = 300
    settled: int = 50
    long_h: float = 10.0
    spoken_every_s: float = 2700.0
    music_h: float = 6.0

    @classmethod
    def small(cls) -> Sizes:
        """Enough to see that the parts work."""
        return cls(
            recordings=8, kills=3, signals=1, worker_kills=2, stops=4, changes=3, flips=6, finetune_kills=2,
            many=30, settled=10, long_h=0.15, spoken_every_s=540.0, music_h=0.1,
        )  # fmt: skip


def start(videos: Path, out: Path, *more: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own, with what it says in a file."""
    command = [*ANNOTATE, str(videos), "--out", str(out), "--offline", "--batch-size", "4", *more]
    with open(log or out.with_suffix(".log"), "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def to_the_end(videos: Path, out: Path, *more: str) -> None:
    """Run until everything is done; raises where the command does not end with 0."""
    code = start(videos, out, *more).wait()
    if code:
        raise SystemExit(f"{out}: exit code {code}\n{out.with_suffix('.log').read_text()[-2000:]}")


def recordings(folder: Path, count: int, seed: int) -> Path:
    """Short recordings of something like speech, no two alike, every third with subtitles."""
    folder.mkdir()
    draw = random.Random(seed)
    for i in range(count):
        talk(folder / f"{i:03}.wav", draw.uniform(2, 5), draw.uniform(90, 250), seed + i)
        if i % 3 == 0:
            subtitles(folder / f"{i:03}.srt", [(0.2, 1.0, f"This is number {i}."), (1.1, 1.9, "So what?")])
    return folder


class Ledger:
    """What is finished in a work folder: nothing of it may go away or be made again."""

    def __init__(self, out: Path) -> None:
        self.work = out.with_suffix(".work")
        self.finished: dict[Path, tuple[int, int]] = {}
        self.lost = self.redone = self.damaged = self.in_hand = 0

    def now(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for folder in ("parts", "prepared"):
            for path in self.work.glob(f"{folder}/*"):
                status = path.stat()
                found[path] = (status.st_ino, status.st_mtime_ns)
        return found

    def note(self) -> None:
        """Compare with what was there, after the command has ended in any way."""
        now = self.now()
        self.lost += sum(path not in now for path in self.finished)
        self.redone += sum(now.get(path, mark) != mark for path, mark in self.finished.items())
        for path in now.keys() - self.finished.keys():
            if path.suffix == ".parquet":
                try:
                    pl.read_parquet(path)
                except pl.exceptions.PolarsError:
                    self.damaged += 1
        self.in_hand += len(list(self.work.glob("scratch/*/*.pcm")))
        self.finished = now

    def left_over(self) -> list[str]:
        """Files that a finished run must not leave."""
        places = [p for p in self.work.parent.rglob("*") if p.name.startswith(".") or p.suffix == ".pcm"]
        places = [p for p in places if p.name != MARK]
        return [str(p) for p in [*places, *self.work.glob("scratch")]]

    def figures(self, name: str) -> Figures:
        left = self.left_over()
        print(f"  finished and lost: {self.lost}, damaged: {self.damaged}, done again: {self.redone}")
        print(f"  in hand and done again: {self.in_hand}; left over: {', '.join(left[:5]) or 'nothing'}")
        return {
            f"{name}_lost": self.lost + self.damaged,
            f"{name}_finished_redone": self.redone,
            f"{name}_in_hand_redone": self.in_hand,
            f"{name}_left_over": len(left),
        }


def same_table(out: Path, clean: Path) -> int:
    """1 when the tables differ in any row or value, else 0."""
    try:
        assert_frame_equal(pl.read_parquet(out), pl.read_parquet(clean), check_exact=True)
    except AssertionError as error:
        print(f"  the table differs from that of a clean run: {error}")
        return 1
    return 0


def wait_for_progress(
    process: subprocess.Popen[bytes], ledger: Ledger, draw: random.Random, sizes: Sizes
) -> bool:
    """Wait for a random moment: while it loads, or after some more work. False when the run ended before."""
    if draw.random() < 0.15 or len(ledger.finished) > 2 * sizes.recordings - 5:  # or little is left to do
        time.sleep(draw.uniform(0, 8))
        return process.poll() is None
    wanted = len(ledger.finished) + draw.randint(1, 5)
    while process.poll() is None and len(ledger.now()) < wanted:
        time.sleep(0.02)
    time.sleep(draw.expovariate(5))
    return process.poll() is None
