"""Every network on a CUDA device against its result on a CPU, and how quick it is: eight minutes at most.

    python -m benchmarks.gpu [--device cuda] [--minutes 20] [--small]

For a machine with a GPU, with nothing to prepare: all weights are those that ship, and the sound is that of
examples/recordings. It checks

- text encoders, voice encoder, face network, segmentation, speaker embedding and recogniser against the CPU,
  each with the tolerance told beside it, and the graph network in double precision, as a run has it;
- the graph network's utterances a second in double, single and bfloat16, batched and one at a time;
- recognition at several batch sizes;
- a whole run of ``--minutes`` of sound with `--profile`, and how often the device had nothing to do then.

Exits 1 when a difference is above its tolerance. On a machine without a GPU, or with `--device cpu`, the same
code compares the CPU with itself, which proves the script and nothing else; `--small` makes that short.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator import encode, media, threads, weights
from annotator.diarize import DiarizerSettings
from annotator.diarize.embedded import Embedded
from annotator.predict import Predictor
from annotator.records import (
    RATE_HZ,
    Audio,
    Evidence,
    Media,
    Prediction,
    Turn,
    Utterance,
)
from annotator.transcribe import whisper
from benchmarks.graph import conversations, utterances_a_second

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "recordings"
# Largest difference over the largest number, or for words the share that differs. Text and face encoders are
# in bfloat16 where the device is quick in it, the recogniser has 8-bit integers on a CPU and halves on a GPU.
TOLERANCES = {
    "text encoder (minilm)": 3e-2,
    "text encoder (e5)": 3e-2,
    "voice encoder": 1e-2,
    "face network": 5e-2,
    "segmentation": 1e-3,
    "speaker embedding": 1e-3,
    "recogniser (words)": 5e-2,
    "graph network": 1e-6,
}
SENTENCES = (
    "I can't believe that you did this for me, thank you so much!",
    "Where is my parcel?",
    "No.",
    "It was the worst day of my whole life, and nobody said a word.",
)
SPANISH = (
    "No puedo creer que hayas hecho esto por mí.",
    "¿Dónde está mi paquete?",
    "Fue el peor día de mi vida.",
)
IDLE_BELOW = 5  # per cent of utilisation
LIMIT_S = 480.0  # what is left of it decides how long the last part may take


@dataclass
class Check:
    name: str
    difference: float

    @property
    def sound(self) -> bool:
        return self.difference <= TOLERANCES[self.name]


@dataclass
class Bench:
    """What all parts share."""

    device: str
    small: bool
    audio: Audio
    recording: Media
    folder: Path = field(default_factory=lambda: weights.checkpoint_folder("starter"))
    begun: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        return LIMIT_S - (time.monotonic() - self.begun)


def difference(cpu: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference, of the CPU's largest number."""
    return float(np.abs(cpu - other).max() / np.abs(cpu).max())


def utterances(texts: Sequence[str], language: str, seconds: float) -> list[Utterance]:
    """One after the other, over so many seconds."""
    step = seconds / len(texts)
    return [
        Utterance(0, i, i * step, (i + 1) * step, f"SPEAKER_0{i % 2}", 0.0, text=text, language=language)
        for i, text in enumerate(texts)
    ]


def encoders(bench: Bench) -> list[Check]:
    specs = Predictor(bench.folder).encoders
    rng = np.random.default_rng(0)
    crops = tuple(rng.integers(0, 256, (k, 48, 48), np.uint8) for k in (1, 5, 9, 3))
    evidence = Evidence(bench.audio, crops, (1.0,) * len(crops))
    english = utterances(SENTENCES, "en", min(60.0, bench.audio.duration_s))
    told = [
        ("text encoder (minilm)", "text", english),
        ("text encoder (e5)", "text", utterances(SPANISH, "es", 20.0)),
        ("voice encoder", "audio", english),
        ("face network", "face", english),
    ]
    checks = []
    for name, modality, given in told:
        both = []
        for device in ("cpu", bench.device):
            encoder = encode.make_encoder(modality, dict(specs[modality]), bench.folder, device)
            features = encoder(evidence, given)
            if not features.present.all():
                raise SystemExit(f"the {name} took some of what it was given for absent")
            both.append(features.values)
        checks.append(Check(name, difference(*both)))
    return checks


def diarizer(bench: Bench) -> list[Check]:
    sound = torch.from_numpy(bench.audio.window(0, 8.0))[: 8 * RATE_HZ].repeat(2)[: 10 * RATE_HZ].repeat(2, 1)
    mel = torch.randn(1, 300, 80, generator=torch.Generator().manual_seed(0))
    both = []
    for device in ("cpu", bench.device):
        whole = Embedded(DiarizerSettings(device=device))
        with torch.inference_mode():
            activity = whole.activity(sound.to(device)).cpu().numpy()
            voice = whole.encoder(mel.to(device)).cpu().numpy()
        both.append((activity, voice))
    (cpu_activity, cpu_voice), (activity, voice) = both
    return [
        Check("segmentation", difference(cpu_activity, activity)),
        Check("speaker embedding", difference(cpu_voice, voice)),
    ]


def recogniser(bench: Bench) -> tuple[list[Check], dict[str, float]]:
    """The check, and seconds of speech a second by batch size."""
    turns = [Turn(0.0, bench.audio.duration_s, "x")]
    said, speeds = [], {}
    batches = {"cpu": (8,), bench.device: (1, 4) if bench.small else (1, 4, 8, 16, 32)}
    for device in dict.fromkeys(("cpu", bench.device)):
        for batch in batches[device]:
            loaded = whisper.load(
                None, device=device, language=None, batch_size=batch, threads=threads.processors()
            )
            began = time.monotonic()
            words = [w.text.strip() for w in loaded(bench.recording, bench.audio, turns).words]
            speeds[f"{device} batch {batch}"] = bench.audio.duration_s / (time.monotonic() - began)
            said.append(words)
    ratios = [difflib.SequenceMatcher(None, said[0], other, autojunk=False).ratio() for other in said[1:]]
    return [Check("recogniser (words)", 1 - min(ratios))], speeds


def graph_network(bench: Bench) -> tuple[list[Check], dict[str, float]]:
    """The check, and utterances a second."""
    dialogues, length = (4, 20) if bench.small else (64, 50)
    both = []
    for device in ("cpu", bench.device):
        predictor = Predictor(bench.folder, device)
        given = conversations(predictor.widths, dialogues, length)
        found = [p for p in predictor.predict(given) if isinstance(p, Prediction)]
        both.append(np.concatenate([p.emotion for p in found]))
    speeds = {}
    rounds = 2 if bench.small else 10
    for name, kind in (("double", torch.float64), ("single", torch.float32), ("bfloat16", torch.bfloat16)):
        if bench.small and kind is torch.bfloat16:
            continue  # a processor that emulates it takes very long
        for batch in (dialogues, 1):
            speed = utterances_a_second(bench.device, kind, dialogues, length, batch, rounds)
            speeds[f"{name}, {batch} dialogue{'s' if batch > 1 else ''} a batch"] = speed
    return [Check("graph network", difference(*both))], speeds


@contextmanager
def utilisation(device: str) -> Iterator[list[int]]:
    """A list that fills with the device's utilisation in per cent, twice a second; empty on a CPU."""
    samples: list[int] = []
    ended = threading.Event()
    index = device.partition(":")[2] or "0"
    command = ["nvidia-smi", f"--id={index}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

    def watch() -> None:
        while not ended.wait(0.5):
            told = subprocess.run(command, capture_output=True, text=True)
            if told.returncode == 0 and told.stdout.strip().isdigit():
                samples.append(int(told.stdout))

    watcher = threading.Thread(target=watch) if device.startswith("cuda") else None
    if watcher:
        watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        if watcher:
            watcher.join()


def whole_run(bench: Bench, minutes: float, scratch: Path) -> dict[str, Any] | None:
    """A run of so many minutes: the call again and again, then the meeting; both without their subtitles."""
    joined = scratch / "long.wav"
    names = ("call.m4a",) if bench.small else ("call.m4a", "meeting.m4a")
    inputs = [word for name in names for word in ("-stream_loop", "-1", "-i", str(EXAMPLES / name))]
    plain = f"aresample=16000,aformat=channel_layouts=mono,atrim=0:{60 * minutes / len(names)}"
    parts = [f"[{i}:a]{plain}[p{i}]" for i in range(len(names))]
    joint = "".join(f"[p{i}]" for i in range(len(names))) + f"concat=n={len(names)}:v=0:a=1"
    filters = ["-filter_complex", ";".join([*parts, joint])]
    ffmpeg = [media.ffmpeg_path(), "-nostdin", "-loglevel", "error"]
    subprocess.run([*ffmpeg, *inputs, *filters, str(joined)], check=True)
    out = scratch / "labels.parquet"
    command = [sys.executable, "-m", "annotator", "run", str(joined), "--out", str(out)]
    command += ["--device", bench.device, "--profile", "--offline", "--workers", "1"]
    limit_s = max(60.0, bench.left_s) if bench.device.startswith("cuda") else None
    try:
        with utilisation(bench.device) as samples:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        print(f"The whole run was given up after {limit_s:.0f} s: give it fewer --minutes.", file=sys.stderr)
        return None
    if ended.returncode != 0:
        raise SystemExit(f"the run ended with {ended.returncode}: {ended.stderr[-2000:]}")
    (profile,) = json.loads(out.with_suffix(".run.json").read_text())["profiles"]
    idle = sum(s < IDLE_BELOW for s in samples) / len(samples) if samples else None
    sound = profile["sound_seconds"]
    stages = {name: sound / max(spent["wall"], 1e-3) for name, spent in profile["stages"].items()}
    return {"profile": profile, "device_idle": idle, "times_real_time": stages}


def timed(name: str, part: Callable[[], Any]) -> Any:
    began = time.monotonic()
    found = part()
    print(f"  ({name}: {time.monotonic() - began:.0f} s)")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the whole run; 60 on a quick device")
    parser.add_argument("--small", action="store_true", help="seconds of sound, for a machine without a GPU")
    parser.add_argument("--without-run", action="store_true", help="leave the whole run out")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("This machine has no CUDA device: give --device cpu to try the script.", file=sys.stderr)
        return 1
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    is_cuda = options.device.startswith("cuda")
    name = torch.cuda.get_device_name(options.device) if is_cuda else platform.machine()
    print(f"{options.device}: {name}, {threads.processors()} processors")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source = EXAMPLES / ("call.m4a" if options.small else "meeting.m4a")
        recording = media.probe(source)
        decoded = media.decode(recording, scratch / "sound.pcm", None)
        assert decoded.audio is not None
        audio = Audio(decoded.audio.samples[: 8 * RATE_HZ]) if options.small else decoded.audio
        bench = Bench(options.device, options.small, audio, recording)
        checks = timed("encoders", lambda: encoders(bench)) + timed("diarizer", lambda: diarizer(bench))
        more, recognition = timed("recogniser", lambda: recogniser(bench))
        again, network = timed("graph network", lambda: graph_network(bench))
        checks += more + again
        whole = None
        if not options.without_run:
            minutes = min(options.minutes, 0.2) if options.small else options.minutes
            whole = timed("whole run", lambda: whole_run(bench, minutes, scratch))
    print(f"\n{'against the CPU':<26}{'difference':>12}{'tolerance':>12}")
    for check in checks:
        fault = "" if check.sound else "  TOO FAR"
        print(f"{check.name:<26}{check.difference:>12.2g}{TOLERANCES[check.name]:>12g}{fault}")
    print("\nrecognition, seconds of speech a second")
    for batch, speed in recognition.items():
        print(f"  {batch:<24}{speed:>10.1f}")
    print("\ngraph network, utterances a second")
    for kind, speed in network.items():
        print(f"  {kind:<34}{speed:>12,.0f}")
    if whole is not None:
        speed = whole["profile"]["sound_seconds_per_second"]
        print(f"\nwhole run, times real time by stage ({speed:.1f} in all)")
        for stage, speed in whole["times_real_time"].items():
            print(f"  {stage:<24}{speed:>12,.0f}")
        idle = whole["device_idle"]
        print(f"  device idle: {'not known here' if idle is None else f'{idle:.0%} of the samples'}")
    short = [check.name for check in checks if not check.sound]
    if whole is None and not options.without_run:
        short.append("whole run")
    summary = {
        "benchmark": "gpu",
        "device": options.device,
        "name": name,
        "figures": {
            "differences": {check.name: check.difference for check in checks},
            "recognition": {k: round(v, 3) for k, v in recognition.items()},
            "graph_network": {k: round(v, 1) for k, v in network.items()},
            "whole_run": whole,
        },
        "short": short,
        "cores": threads.processors(),
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("conversation-annotator", "torch", "ctranslate2")},
        },
    }
    print(json.dumps(summary))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
