"""What a run takes of memory, over many recordings and over a long one."""

from __future__ import annotations

import random
import time
from pathlib import Path

import imageio_ffmpeg
import polars as pl

from benchmarks.chaos.processes import sampled
from benchmarks.chaos.runs import Figures, Sizes, recordings, start
from tests.media import run_ffmpeg, talk


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
    hours, videos, out = sizes.long_h, base / "long_recording", base / "long" / "labels.parquet"
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
