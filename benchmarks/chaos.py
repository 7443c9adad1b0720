"""The real command under kills, signals, dying workers and a full disk, and what it takes of memory.

python -m benchmarks.chaos [kills] [signals] [workers] [disk] [memory] [long]        all but long by default

    kills    SIGKILL at random moments of a run over 60 recordings, 40 times, then to the end
    signals  SIGTERM and SIGINT at random moments, 5 times each, then to the end
    workers  worker processes killed by their ids, at random moments
    disk     a tmpfs that fills up in the middle, then has room again (needs `unshare`)
    memory   300 recordings in one worker: memory after the 50th and after the last
    long     one recording of ten hours (about half an hour on one core): the most memory at any time

Each prints what was lost and what was done again. Exits 1 when something falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import imageio_ffmpeg
import polars as pl
from polars.testing import assert_frame_equal

from tests.media import run_ffmpeg, talk

RECORDINGS, KILLS, WORKERS = 60, 40, 2
SIGNALS = 5  # of each kind
WORKER_KILLS = 12
MANY, SETTLED, GROWTH_LIMIT = 300, 50, 1.10
LONG_H = 10.0
LONG_LIMIT_MB = 3500  # as the README says, for one worker
ANNOTATE = [sys.executable, "-m", "annotator", "run"]
Figures = dict[str, float | None]


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
    """Short recordings of something like speech, no two alike."""
    folder.mkdir()
    draw = random.Random(seed)
    for i in range(count):
        talk(folder / f"{i:03}.wav", draw.uniform(2, 5), draw.uniform(90, 250), seed + i)
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


def wait_for_progress(process: subprocess.Popen[bytes], ledger: Ledger, draw: random.Random) -> bool:
    """Wait for a random moment: while it loads, or after some more work. False when the run ended before."""
    if draw.random() < 0.15 or len(ledger.finished) > 2 * RECORDINGS - 5:  # or little is left to do
        time.sleep(draw.uniform(0, 8))
        return process.poll() is None
    wanted = len(ledger.finished) + draw.randint(1, 5)
    while process.poll() is None and len(ledger.now()) < wanted:
        time.sleep(0.02)
    time.sleep(draw.expovariate(5))
    return process.poll() is None


def kills(base: Path, clean: Path, draw: random.Random) -> Figures:
    out = base / "kills" / "labels.parquet"
    out.parent.mkdir()
    ledger, done = Ledger(out), 0
    while done < KILLS:
        process = start(base / "videos", out, "--workers", str(WORKERS))
        if wait_for_progress(process, ledger, draw):
            process.kill()
            done += 1
        process.wait()
        wait_for_children(process.pid)
        ledger.note()
    to_the_end(base / "videos", out, "--workers", str(WORKERS))
    print(f"kills: {done} x SIGKILL, {RECORDINGS} recordings, {WORKERS} workers")
    return {"kills": done} | ledger.figures("kills") | {"kills_table_differs": same_table(out, clean)}


def signals(base: Path, clean: Path, draw: random.Random) -> Figures:
    out = base / "signals" / "labels.parquet"
    out.parent.mkdir()
    ledger, wrong, slowest = Ledger(out), 0, 0.0
    for number in [signal.SIGTERM, signal.SIGINT] * SIGNALS:
        process = start(base / "videos", out, "--workers", str(WORKERS))
        wanted = len(ledger.finished) + draw.randint(1, 8)
        while process.poll() is None and len(ledger.now()) < wanted:
            time.sleep(0.02)
        if process.poll() is not None:  # everything was done
            break
        os.killpg(process.pid, number)  # as a terminal does
        since = time.monotonic()
        code = process.wait()
        slowest = max(slowest, time.monotonic() - since)
        if code not in (128 + number, 0):
            wrong += 1
            print(f"  {number.name} gave exit code {code}")
        ledger.note()
    to_the_end(base / "videos", out, "--workers", str(WORKERS))
    print(f"signals: SIGTERM and SIGINT in turn; the slowest stop took {slowest:.1f} s")
    more: Figures = {"signals_wrong_code": wrong, "signals_table_differs": same_table(out, clean)}
    return ledger.figures("signals") | more


def workers(base: Path, clean: Path, draw: random.Random) -> Figures:
    out = base / "workers" / "labels.parquet"
    out.parent.mkdir()
    ledger, killed, codes = Ledger(out), 0, []
    while True:
        process = start(base / "videos", out, "--workers", str(WORKERS))
        while process.poll() is None:
            if killed < WORKER_KILLS and draw.random() < 0.05:
                at_work = [pid for pid in family(process.pid) if b"spawn_main" in command_line(pid)]
                if at_work and any(ledger.work.glob("scratch/*/*.pcm")):
                    os.kill(draw.choice(at_work), signal.SIGKILL)
                    killed += 1
            time.sleep(0.1)
        codes.append(process.returncode)
        ledger.note()
        if process.returncode != 3:  # a recording whose worker died twice failed; the next run has it again
            break
    print(f"workers: {killed} killed; exit codes {codes}")
    more: Figures = {
        "workers_wrong_code": int(codes[-1] != 0),
        "workers_table_differs": same_table(out, clean),
    }
    return {"workers_killed": killed} | ledger.figures("workers") | more


DISK = """
set -e
mount -t tmpfs -o size=24m tmpfs "$2"
head -c 23m /dev/zero > "$2/ballast"
set +e
"$1" -m annotator run "$3" --out "$2/labels.parquet" --offline --batch-size 4 --workers 1 > "$4" 2>&1
echo $? > "$5/code"
rm "$2/ballast"
ls "$2"/labels.work/parts 2>/dev/null | wc -l > "$5/before"
"$1" -m annotator run "$3" --out "$2/labels.parquet" --offline --batch-size 4 --workers 1 >> "$4" 2>&1
echo $? >> "$5/code"
find "$2" -name '*.tmp' > "$5/left"
cp "$2/labels.parquet" "$5/"
"""


def disk(base: Path, clean: Path, draw: random.Random) -> Figures:
    place, mount = base / "disk", base / "mount"
    place.mkdir()
    mount.mkdir()
    log = place / "log"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", DISK, "sh", sys.executable]
    arguments = [str(mount), str(base / "videos"), str(log), str(place)]
    if shutil.which("unshare") is None or subprocess.run([*command, *arguments]).returncode:
        print("disk: not measured, a small tmpfs can't be mounted here")
        return {"disk_table_differs": None}
    codes = (place / "code").read_text().split()
    said = log.read_text()
    sentence = "disk is full" in said or "No space left" in said
    print(
        f"disk: full in the middle: exit code {codes[0]}, then with room {codes[1]}; it says why: {sentence}"
    )
    wrong = codes != ["1", "0"] or not sentence or "Traceback" in said
    left = len((place / "left").read_text().splitlines())
    return {
        "disk_wrong_end": int(wrong),
        "disk_left_over": left,
        "disk_table_differs": same_table(place / "labels.parquet", clean),
    }


def memory(base: Path, clean: Path, draw: random.Random) -> Figures:
    videos, out = recordings(base / "many", MANY, 1000), base / "memory" / "labels.parquet"
    out.parent.mkdir()
    process = start(videos, out, "--workers", "1")
    prepared = out.with_suffix(".work") / "prepared"
    at: dict[int, float] = {}
    with sampled(process.pid) as latest:
        while process.poll() is None:
            count = len(list(prepared.glob("*.safetensors")))
            for mark in (SETTLED, MANY):
                if mark - 5 <= count <= mark:
                    at[mark] = max(at.get(mark, 0.0), latest())
            time.sleep(0.05)
    if process.returncode or len(at) < 2:
        raise SystemExit(
            f"memory: exit code {process.returncode}\n{out.with_suffix('.log').read_text()[-2000:]}"
        )
    growth = at[MANY] / at[SETTLED]
    print(f"memory: {at[SETTLED]:.0f} MB after {SETTLED} recordings, {at[MANY]:.0f} MB after {MANY}")
    return {"memory_50_mb": at[SETTLED], "memory_300_mb": at[MANY], "memory_growth": growth}


def long(base: Path, clean: Path, draw: random.Random) -> Figures:
    hours, videos, out = LONG_H, base / "long_recording", base / "long" / "labels.parquet"
    videos.mkdir()
    out.parent.mkdir()
    # Two minutes of two voices that take turns, over and over.
    pieces = [talk(base / f"{i}.wav", draw.uniform(2, 6), (110, 210)[i % 2], i) for i in range(32)]
    (base / "list.txt").write_text("".join(f"file '{piece}'\n" for piece in pieces))
    joined, loops = base / "two.ogg", str(round(hours * 30) - 1)
    listed = ("-f", "concat", "-safe", "0", "-i", str(base / "list.txt"), "-t", "120")
    run_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe(), *listed, "-c:a", "libopus", "-b:a", "16k", str(joined))
    looped = ("-stream_loop", loops, "-i", str(joined), "-c", "copy", str(videos / "long.mka"))
    run_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe(), *looped)
    began = time.monotonic()
    process = start(videos, out, "--workers", "1")
    most = 0.0
    with sampled(process.pid) as latest:
        while process.poll() is None:
            most = max(most, latest())
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(
            f"long: exit code {process.returncode}\n{out.with_suffix('.log').read_text()[-2000:]}"
        )
    rows, seconds = len(pl.read_parquet(out)), time.monotonic() - began
    print(f"long: {hours:g} hours, {rows} utterances, {seconds:.0f} s, {most:.0f} MB of memory at most")
    return {"long_hours": hours, "long_rows": rows, "long_s": seconds, "long_mb": most}


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def anonymous_mb(pid: int) -> float:
    """Memory of a process that is its own: not mapped files, which the kernel drops when it needs room."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1024


@contextmanager
def sampled(pid: int) -> Iterator[Callable[[], float]]:
    """A function that gives the most memory (MB) of a process and all below it since it was last asked."""
    done = threading.Event()
    most = [0.0]

    def watch() -> None:
        while not done.wait(0.1):
            most[0] = max(most[0], sum(anonymous_mb(one) for one in family(pid)))

    def latest() -> float:
        value, most[0] = most[0], 0.0
        return value

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield latest
    finally:
        done.set()
        thread.join()


def wait_for_children(group: int) -> None:
    """Until nothing of a killed run works on: workers and decoders die with it, a moment later."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not any(state != "Z" and of == group for state, of in map(state_and_group, process_ids())):
            return
        time.sleep(0.05)
    raise SystemExit("a killed run has left processes behind")


def process_ids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def state_and_group(pid: int) -> tuple[str, int]:
    """Of a process: its state letter, and the number of its group."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "Z", 0
    return fields[0], int(fields[2])


LIMITS: dict[str, float] = {
    **{
        f"{name}_{what}": 0
        for name in ("kills", "signals", "workers")
        for what in ("lost", "finished_redone", "left_over", "table_differs")
    },
    "kills_in_hand_redone": KILLS * WORKERS,
    "signals_wrong_code": 0,
    "workers_wrong_code": 0,
    "disk_wrong_end": 0,
    "disk_left_over": 0,
    "disk_table_differs": 0,
    "memory_growth": GROWTH_LIMIT,
    "long_mb": LONG_LIMIT_MB,
}
PARTS: dict[str, Callable[[Path, Path, random.Random], Figures]] = {
    "kills": kills,
    "signals": signals,
    "workers": workers,
    "disk": disk,
    "memory": memory,
    "long": long,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=list(PARTS), metavar="PART", help="what to try")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    parts = options.parts or [name for name in PARTS if name != "long"]
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        base = Path(folder)
        clean = base / "clean" / "labels.parquet"
        if set(parts) - {"memory", "long"}:
            clean.parent.mkdir()
            to_the_end(recordings(base / "videos", RECORDINGS, 0), clean, "--workers", str(WORKERS))
        for name in parts:
            began = time.monotonic()
            figures |= PARTS[name](base, clean, random.Random(options.seed))
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
    short = [n for n, limit in LIMITS.items() if (value := figures.get(n)) is not None and value > limit]
    print("falls short: " + ", ".join(short) if short else "nothing falls short")
    summary = {
        "benchmark": "chaos",
        "figures": {n: value if value is None else round(value, 3) for n, value in figures.items()},
        "short": short,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "polars": version("polars"),
        },
    }
    print(json.dumps(summary))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
