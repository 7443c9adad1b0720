"""What a run takes of memory, over many recordings and over a long one."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import polars as pl
import soundfile

from annotator.records import RATE_HZ
from benchmarks.chaos.processes import sampled
from benchmarks.chaos.runs import Figures, Sizes, recordings, start
from benchmarks.recognition.references import meetings
from benchmarks.recognition.sounds import sounds
from tests.media import run_ffmpeg, talk

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def memory(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    videos, out = recordings(base / "many", sizes.many, 1000), base / "memory" / "labels.parquet"
    out.parent.mkdir()
    process = start(videos, out, "--workers", "1")
    prepared = out.with_suffix(".work") / "prepared"
    at: dict[int, float] = {}
    with sampled(process.pid) as latest:
        while process.poll() is None:
            count = len(list(prepared.glob("*.safetensors")))
            for mark in (sizes.settled, sizes.many):
                if mark - 5 <= count <= mark:
                    at[mark] = max(at.get(mark, 0.0), latest())
            time.sleep(0.05)
    if process.returncode or len(at) < 2:
        raise SystemExit(
            f"memory: exit code {process.returncode}\n{out.with_suffix('.log').read_text()[-2000:]}"
        )
    growth = at[sizes.many] / at[sizes.settled]
    print(
        f"memory: {at[sizes.settled]:.0f} MB after {sizes.settled} recordings, "
        f"{at[sizes.many]:.0f} MB after {sizes.many}"
    )
    return {"memory_50_mb": at[sizes.settled], "memory_300_mb": at[sizes.many], "memory_growth": growth}


def long(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """Two made voices that take turns from end to end: most utterances an hour, without recognition.

    A recogniser hears the buzz of such voices again and again, as no speech makes it do: see `spoken`.
    """
    pieces = [talk(base / f"{i}.wav", draw.uniform(2, 6), (110, 210)[i % 2], i) for i in range(32)]
    (base / "list.txt").write_text("".join(f"file '{piece}'\n" for piece in pieces))
    joined = base / "voices.wav"
    listed = ("-f", "concat", "-safe", "0", "-i", str(base / "list.txt"), "-t", "120")
    run_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe(), *listed, str(joined))
    return over_and_over("long", base, joined, sizes.long_h, "--transcriber", "none")


def spoken(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """Seven minutes of meetings in every three quarters of an hour, and a faint noise between: recognised."""
    clips = meetings(DATA)
    talk_s = sum(len(clip.samples) for clip in clips) / RATE_HZ
    quiet = np.random.default_rng(0).normal(0, 3, round((sizes.spoken_every_s - talk_s) * RATE_HZ))
    joined = base / "meetings.wav"
    samples = np.concatenate([clip.samples for clip in clips] + [quiet.astype(np.int16)])
    soundfile.write(joined, samples, RATE_HZ, subtype="PCM_16")
    return over_and_over("spoken", base, joined, sizes.long_h)


def music(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """Plucked, strummed, synthetic and beaten music, recognised: it holds no words."""
    pieces = [
        sound.samples
        for seed in range(8)
        for sound in sounds(seed=seed)
        if sound.name.split("_")[0] in ("plucked", "strummed", "chords", "beat")
    ]
    joined = base / "music.wav"
    soundfile.write(joined, np.concatenate(pieces), RATE_HZ, subtype="PCM_16")
    return over_and_over("music", base, joined, sizes.music_h)


def over_and_over(part: str, base: Path, sound: Path, hours: float, *more: str) -> Figures:
    """One recording of so many hours, of a sound again and again, through the chain in one worker."""
    videos, out = base / f"{part}_videos", base / part / "labels.parquet"
    videos.mkdir()
    out.parent.mkdir()
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    packed = sound.with_suffix(".ogg")
    run_ffmpeg(ffmpeg, "-i", str(sound), "-c:a", "libopus", "-b:a", "32k", str(packed))
    looped = ("-stream_loop", "-1", "-i", str(packed), "-t", str(hours * 3600), "-c", "copy")
    run_ffmpeg(ffmpeg, *looped, str(videos / f"{part}.mka"))
    began, before = time.monotonic(), os.times()
    process = start(videos, out, "--workers", "1", *more)
    most = 0.0
    with sampled(process.pid) as latest:
        while process.poll() is None:
            most = max(most, latest())
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(
            f"{part}: exit code {process.returncode}\n{out.with_suffix('.log').read_text()[-2000:]}"
        )
    after, table = os.times(), pl.read_parquet(out)
    processor_s = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    figures: Figures = {
        "hours": hours,
        "rows": len(table),
        "words": int(table["words"].list.len().sum() or 0),
        "wall_s": time.monotonic() - began,
        "processor_s": processor_s,
        "mb": most,
    }
    print(f"{part}: " + ", ".join(f"{name} {value:g}" for name, value in figures.items()))
    return {f"{part}_{name}": value for name, value in figures.items()}
