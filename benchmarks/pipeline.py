"""What a run over an hour costs, against what the machine could do, in the three forms that recordings have.

python -m benchmarks.pipeline [--minutes 60] [--only forms many again memory equal]

The hour is made of the scenes of ``benchmarks.face_scenes``, encoded once as 720p25 and looped: two to four
people, one of them talking at any time, about 900 utterances. It is run

    subtitles    with subtitles beside it that name who speaks
    recognition  without: its words are recognised
    sound        its sound alone

Exits 1 when a limit is passed:

    forms   wall seconds <= 1.25 x processor seconds of all stages / cores; 10, 5 and 8 times real time
    many    the same as recordings of a minute: 0.9 to 1.1 times the throughput of the long one
    again   the same work folder with another checkpoint: 20 times as quick
    memory  4 GB at most, all processes together (shared pages counted once)
    equal   the same rows to the bit with 1, 2 and 3 workers, batches of 1 and 32, whole and in two shards

Other work on the machine lengthens wall times and little else: the load is told beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import polars as pl
from polars.testing import assert_frame_equal

from annotator import media
from annotator.threads import processors
from annotator.weights import checkpoint_folder
from benchmarks.chaos.processes import family
from benchmarks.face_scenes import make
from model.checkpoint import load_checkpoint, save_checkpoint

SCENES = (("series", 0), ("two", 1), ("listeners", 2), ("one", 3), ("four", 4), ("series", 5))
NAMES = ("ANNA", "BEN", "CLARA", "DAVID", "EMIL")
PARTS = ("forms", "many", "again", "memory", "equal")
FORMS = ("subtitles", "recognition", "sound")
WALL_LIMIT = 1.25
SPEED_LIMITS = {"subtitles": 10.0, "recognition": 5.0, "sound": 8.0}
MANY_LIMITS = 0.9, 1.1
AGAIN_LIMIT = 20.0
MEMORY_LIMIT_MB = 4096.0
SHORT_S = 60.0
EQUAL = 3  # recordings whose rows are compared
Cue = tuple[float, float, str]


@dataclass(frozen=True)
class Ran:
    """What a command cost."""

    wall_s: float
    processor_s: float
    memory_mb: float
    profile: dict[str, Any]

    @property
    def of_possible(self) -> float:
        """Wall seconds against those that all processors would need for the work of all stages."""
        stages = float(sum(stage["processor"] for stage in self.profile["stages"].values()))
        return self.wall_s / (stages / processors())

    @property
    def speed(self) -> float:
        return float(self.profile["sound_seconds"]) / self.wall_s

    def figures(self) -> dict[str, Any]:
        return {
            "wall_s": round(self.wall_s, 1),
            "processor_s": round(self.processor_s, 1),
            "stages_s": {k: s["processor"] for k, s in self.profile["stages"].items()},
            "wall_of_possible": round(self.of_possible, 3),
            "times_real_time": round(self.speed, 2),
            "memory_mb": round(self.memory_mb),
        }


def ffmpeg(*words: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *map(str, words)]
    subprocess.run(command, check=True)


def round_of(base: Path) -> tuple[Path, float, list[Cue]]:
    """All scenes one after the other in one file, its length in seconds, and what is said when."""
    scenes = [make(kind, seed, base / "scenes") for kind, seed in SCENES]
    file = base / "round.mkv"
    lengths = [media.probe(scene.path).duration_s or 0.0 for scene in scenes]
    if not file.exists():
        inputs = [word for scene in scenes for word in ("-i", scene.path)]
        chains = [
            f"[{i}:v]scale=1280:720,fps=25,tpad=stop=-1:stop_mode=clone,trim=duration={s}[v{i}];"
            f"[{i}:a]aresample=48000,apad,atrim=duration={s}[a{i}];"
            for i, s in enumerate(lengths)
        ]
        joined = "".join(f"[v{i}][a{i}]" for i in range(len(scenes)))
        graph = f"{''.join(chains)}{joined}concat=n={len(scenes)}:v=1:a=1[v][a]"
        video = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "24", "-g", "50", "-pix_fmt", "yuv420p")
        sound = ("-c:a", "aac", "-b:a", "96k")
        ffmpeg(*inputs, "-filter_complex", graph, "-map", "[v]", "-map", "[a]", *video, *sound, file)
    cues: list[Cue] = []
    begin = 0.0
    for scene, length in zip(scenes, lengths, strict=True):
        for said in scene.utterances:
            cues.append((begin + said.start, begin + said.end, f"{NAMES[said.who]}: {said.text}"))
        begin += length
    return file, media.probe(file).duration_s or begin, cues


def clock(seconds: float) -> str:
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{milli:03}"


def write_subtitles(path: Path, cues: Sequence[Cue]) -> None:
    texts = (f"{n}\n{clock(a)} --> {clock(b)}\n{text}\n" for n, (a, b, text) in enumerate(cues, 1))
    path.write_text("\n".join(texts), encoding="utf-8")


class Recordings:
    """The hour in its forms, made as they are asked for."""

    def __init__(self, base: Path, seconds: float) -> None:
        self.base, self.seconds = base, seconds
        self.round, length, cues = round_of(base)
        rounds = int(seconds / length) + 1
        self.cues = [(a + k * length, b + k * length, t) for k in range(rounds) for a, b, t in cues]

    def form(self, name: str) -> Path:
        folder = self.base / f"{name}-{self.seconds:g}"
        if not folder.exists():
            folder.mkdir()
            file = folder / ("talk.mka" if name == "sound" else "talk.mkv")
            streams = ("-map", "0:a") if name == "sound" else ("-map", "0")
            looped = ("-stream_loop", "-1", "-i", self.round, "-t", self.seconds, *streams, "-c", "copy")
            ffmpeg(*looped, file)
            if name == "subtitles":
                write_subtitles(folder / "talk.srt", [c for c in self.cues if c[1] < self.seconds])
        return folder

    def many(self, count: int) -> Path:
        """The form ``subtitles`` in recordings of a minute, each cut at the nearest key frame."""
        folder, long = self.base / f"many-{count}-{self.seconds:g}", self.form("subtitles") / "talk.mkv"
        if not folder.exists():
            folder.mkdir()
            for k in range(count):
                file, begin = folder / f"{k:03}.mkv", k * SHORT_S
                ffmpeg("-ss", begin, "-i", long, "-t", SHORT_S, "-c", "copy", file)
                own = [(a - begin, b - begin, t) for a, b, t in self.cues if a >= begin]
                write_subtitles(file.with_suffix(".srt"), [c for c in own if c[1] < SHORT_S])
        return folder


def shared_mb(pid: int) -> float:
    """Memory of a process, of pages that it shares with others its part (PSS)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def annotate(inputs: Path, out: Path, *more: object) -> Ran:
    """The command, which must succeed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "annotator", "run", str(inputs), "--out", str(out), "--offline"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(out.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            [*command, "--profile", "--quiet", *map(str, more)], stdout=log, stderr=log
        )
        most, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                most[0] = max(most[0], sum(map(shared_mb, family(process.pid))))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    done.set()
    watcher.join()
    if code:
        raise SystemExit(
            f"{' '.join(command)}: exit code {code}\n{out.with_suffix('.log').read_text()[-2000:]}"
        )
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    record = json.loads(out.with_suffix(".run.json").read_text())
    return Ran(wall, spent, most[0], record["profiles"][-1])


def other_checkpoint(folder: Path, text_encoder: bool) -> Path:
    """The starter with a network as after more training, or one with another text encoder as well."""
    starter = checkpoint_folder("starter")
    checkpoint = load_checkpoint(starter)
    checkpoint.version += "-other"
    for parameter in checkpoint.network.parameters():
        parameter.data *= 1.001
    if text_encoder:
        checkpoint.encoders["text"].pop("second")
    save_checkpoint(folder, checkpoint)
    for file in starter.glob("*.safetensors"):
        if file.name != "model.safetensors":
            shutil.copy(file, folder)
    return folder


def tell(name: str, ran: Ran) -> None:
    stages = ", ".join(f"{k} {s['processor']:.0f}" for k, s in ran.profile["stages"].items())
    print(
        f"{name:24}{ran.wall_s:9.1f} s wall{ran.processor_s:9.1f} s processor{ran.of_possible:7.2f} x "
        f"possible{ran.speed:7.2f} x real time{ran.memory_mb:7.0f} MB   "
        f"({stages}; load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def rows(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out).sort("file", "start", "end", "speaker")


def same_rows(recordings: Recordings, base: Path) -> dict[str, bool]:
    """Whether the rows of a few recordings without subtitles are the same, however they are worked on."""
    folder = recordings.base / f"equal-{recordings.seconds:g}"
    if not folder.exists():
        shutil.copytree(recordings.many(EQUAL), folder, ignore=shutil.ignore_patterns("*.srt"))
    ways = {"1 worker": ("--workers", 1, "--batch-size", 32)}
    ways |= {f"{n} workers": ("--workers", n, "--batch-size", 1) for n in (2, 3)}
    told, first = {}, None
    for name, words in ways.items():
        out = base / f"equal {name}" / "labels.parquet"
        annotate(folder, out, *words)
        first = rows(out) if first is None else first
        told[name] = same(name, rows(out), first)
    out = base / "equal shards" / "labels.parquet"
    for shard in ("0/2", "1/2"):
        annotate(folder, out, "--shard", shard, "--batch-size", 1)
    assert first is not None
    told["two shards"] = same("two shards", rows(out), first)
    return told


def same(name: str, found: pl.DataFrame, first: pl.DataFrame) -> bool:
    try:
        assert_frame_equal(found, first, check_exact=True)
    except AssertionError as error:
        print(f"{name}: the rows differ: {error}")
        return False
    print(f"{name}: the same {len(found)} rows")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--keep", type=Path, help="where the recordings are kept for a next time")
    options = parser.parse_args()
    short: list[str] = []
    figures: dict[str, Any] = {"minutes": options.minutes, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        kept = options.keep or base / "recordings"
        kept.mkdir(parents=True, exist_ok=True)
        recordings = Recordings(kept, options.minutes * 60)
        only = set(options.only)
        wanted = set(options.forms) if only & {"forms", "memory"} else set()
        if only & {"many", "again"}:
            wanted.add("subtitles")
        runs: dict[str, Ran] = {}
        for form in (f for f in FORMS if f in wanted):
            runs[form] = ran = annotate(recordings.form(form), base / form / "labels.parquet")
            tell(form, ran)
            figures[form] = ran.figures()
            if "forms" in only and ran.of_possible > WALL_LIMIT:
                short.append(f"{form}: {ran.of_possible:.2f} x possible")
            if "forms" in only and ran.speed < SPEED_LIMITS[form]:
                short.append(f"{form}: {ran.speed:.2f} x real time")
        if "many" in only:
            ran = annotate(recordings.many(round(options.minutes)), base / "many" / "labels.parquet")
            tell("recordings of a minute", ran)
            ratio = ran.speed / runs["subtitles"].speed
            runs["many"], figures["many"] = ran, ran.figures() | {"throughput_of_one": round(ratio, 3)}
            print(f"throughput of many against one: {ratio:.2f}")
            if not MANY_LIMITS[0] <= ratio <= MANY_LIMITS[1]:
                short.append(f"many: {ratio:.2f} x the throughput of one")
        if "again" in only:
            work = base / "subtitles" / "labels.work"
            for name, text_encoder in (("network", False), ("text encoder", True)):
                other = other_checkpoint(base / f"other {name}", text_encoder)
                out = base / f"again {name}" / "labels.parquet"
                ran = annotate(recordings.form("subtitles"), out, "--model", other, "--work-dir", work)
                tell(f"another {name}", ran)
                ratio = runs["subtitles"].wall_s / ran.wall_s
                figures[f"again {name}"] = ran.figures() | {"times_as_quick": round(ratio, 1)}
                print(f"another {name}: {ratio:.1f} times as quick as the first run")
                if ratio < AGAIN_LIMIT:
                    short.append(f"again, another {name}: {ratio:.1f} times as quick")
        if "memory" in only:
            for name, ran in runs.items():
                if ran.memory_mb > MEMORY_LIMIT_MB:
                    short.append(f"{name}: {ran.memory_mb:.0f} MB")
        if "equal" in only:
            figures["equal"] = same_rows(recordings, base)
            short += [f"rows differ: {way}" for way, equal in figures["equal"].items() if not equal]
    print("falls short: " + "; ".join(short) if short else "within all limits")
    figures |= {"cores": processors(), "python": platform.python_version(), "ffmpeg": media.ffmpeg_version()}
    figures |= {name: version(name) for name in ("torch", "ctranslate2", "opencv-python-headless")}
    print(json.dumps(figures))
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
