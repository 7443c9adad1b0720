"""What ends or stops a run: kills, signals, dying workers, stopped processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from annotator.pipeline.workers import STARTS
from benchmarks.chaos.processes import command_line, family, wait_for_children
from benchmarks.chaos.runs import (
    WORKERS,
    Figures,
    Ledger,
    Sizes,
    same_table,
    start,
    to_the_end,
    wait_for_progress,
)


def kills(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    out = base / "kills" / "labels.parquet"
    out.parent.mkdir()
    ledger, done = Ledger(out), 0
    while done < sizes.kills:
        process = start(base / "videos", out, "--workers", str(WORKERS))
        if wait_for_progress(process, ledger, draw, sizes):
            process.kill()
            done += 1
        process.wait()
        wait_for_children(process.pid)
        ledger.note()
    to_the_end(base / "videos", out, "--workers", str(WORKERS))
    print(f"kills: {done} x SIGKILL, {sizes.recordings} recordings, {WORKERS} workers")
    return {"kills": done} | ledger.figures("kills") | {"kills_table_differs": same_table(out, clean)}


def signals(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    out = base / "signals" / "labels.parquet"
    out.parent.mkdir()
    ledger, wrong, slowest = Ledger(out), 0, 0.0
    for number in [signal.SIGTERM, signal.SIGINT] * sizes.signals:
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


def workers(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    out = base / "workers" / "labels.parquet"
    out.parent.mkdir()
    ledger, killed, codes = Ledger(out), 0, []
    while True:
        before = killed
        process = start(base / "videos", out, "--workers", str(WORKERS))
        while process.poll() is None:
            if killed < sizes.worker_kills and draw.random() < 0.05:
                at_work = [pid for pid in family(process.pid) if b"spawn_main" in command_line(pid)]
                if at_work and any(ledger.work.glob("scratch/*/*.pcm")):
                    os.kill(draw.choice(at_work), signal.SIGKILL)
                    killed += 1
            time.sleep(0.1)
        codes.append(process.returncode)
        ledger.note()
        # A recording whose worker died twice failed (3), and a run whose workers die three times in a row
        # while they load says so and ends (1): the next run goes on.
        if process.returncode not in (1, 3) or (process.returncode == 1 and killed < before + STARTS):
            break
    print(f"workers: {killed} killed; exit codes {codes}")
    if codes[-1] != 0:
        raise SystemExit(out.with_suffix(".log").read_text()[-3000:])
    more: Figures = {"workers_table_differs": same_table(out, clean)}
    return {"workers_killed": killed} | ledger.figures("workers") | more


def stops(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """A run stopped and continued, as by Ctrl-Z or a frozen container, or one process of it alone."""
    out = base / "stops" / "labels.parquet"
    out.parent.mkdir()
    ledger, stopped, codes = Ledger(out), 0, []
    while True:
        process = start(base / "videos", out, "--workers", str(WORKERS))
        while process.poll() is None and stopped < sizes.stops:
            time.sleep(draw.uniform(0, 3))
            at_work = family(process.pid)
            chosen = at_work if draw.random() < 0.6 else [draw.choice(at_work)]
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for pid in chosen:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        continue
                if number == signal.SIGSTOP:
                    time.sleep(draw.uniform(0.2, 5))
            stopped += 1
        codes.append(process.wait())
        ledger.note()
        if stopped >= sizes.stops or codes[-1]:
            break
        # It ended before all of them: once more from the start.
        out = base / f"stops-{len(codes)}" / "labels.parquet"
        out.parent.mkdir()
        ledger = Ledger(out)
    print(f"stops: {stopped} x SIGSTOP and SIGCONT; exit codes {codes}")
    more: Figures = {"stops_wrong_code": int(any(codes)), "stops_table_differs": same_table(out, clean)}
    return ledger.figures("stops") | more


def finetune(base: Path, clean: Path, draw: random.Random, sizes: Sizes) -> Figures:
    """A fine-tuning killed at random moments ends with the weights of one that was left alone."""
    from safetensors.torch import load_file

    from tests.corpora import synthetic_corpus
    from train.loop import train_corpus
    from train.settings import TrainSettings

    place = base / "finetune"
    place.mkdir()
    corpus = synthetic_corpus(place / "corpus", (90, 20, 20), ("audio", "face")).folder
    train_corpus(corpus, place / "start", settings=TrainSettings(epochs=2), progress=False)
    command = [sys.executable, "-m", "annotator", "finetune", str(corpus), "--from", str(place / "start")]
    command += ["--text", "frozen", "--epochs", "12", "--patience", "0", "--device", "cpu", "--quiet"]

    def begin(name: str) -> subprocess.Popen[bytes]:
        with open(place / f"{name}.log", "ab") as file:
            more = ["--out", str(place / name), "--name", "model"]
            return subprocess.Popen([*command, *more], stdout=file, stderr=file, start_new_session=True)

    began = time.monotonic()
    if begin("whole").wait():
        raise SystemExit((place / "whole.log").read_text()[-2000:])
    lasts = time.monotonic() - began
    killed = 0
    while killed < sizes.finetune_kills:
        process = begin("killed")
        try:
            process.wait(draw.uniform(0.2, 0.9) * lasts)
            break  # it was faster this time
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    code = begin("killed").wait() if not (place / "killed").exists() else 0
    one, two = (load_file(place / name / "model.safetensors") for name in ("whole", "killed"))
    differs = int(one.keys() != two.keys() or any(not one[name].equal(two[name]) for name in one))
    print(f"finetune: {killed} x SIGKILL; the weights are {'other' if differs else 'the same'}")
    return {"finetune_kills": killed, "finetune_wrong_code": code, "finetune_differs": differs}
