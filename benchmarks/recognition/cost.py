"""What the engine alone takes: loads it in a process of its own and recognises recordings that are given.

python -m benchmarks.recognition.cost FOLDER        of SET/NAME.wav, each with SET/NAME.json (spans of speech)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from annotator.records import Audio, Media, Turn

from .references import Recording

BATCHES = (4, 1)


def measure(sets: dict[str, Sequence[Recording]], folder: Path) -> dict[str, float]:
    """Processor seconds a second of speech by set and batch, and megabytes that the process grew by."""
    for name, recordings in sets.items():
        for recording in recordings:
            path = recording.write(folder / name)
            path.with_suffix(".json").write_text(json.dumps(recording.speech))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.recognition.cost", str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def resident_mb(of: str = "VmRSS") -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(of))


def main() -> int:
    import torch
    import transformers  # noqa: F401 - a worker has these anyway: what they take is not counted

    from annotator.transcribe.whisper import load
    from benchmarks.conversations import read_flac

    torch.set_num_threads(1)
    sets = {folder.name: sorted(folder.glob("*.wav")) for folder in sorted(Path(sys.argv[1]).iterdir())}
    sounds = {path: Audio(read_flac(path)) for paths in sets.values() for path in paths}
    turns = {
        path: [Turn(start, end, "x") for start, end in json.loads(path.with_suffix(".json").read_text())]
        for path in sounds
    }
    before, anonymous = resident_mb(), resident_mb("RssAnon")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    whisper = load(None, device="cpu", language=None, batch_size=max(BATCHES), threads=1)
    figures = {"load_mb": resident_mb("VmHWM") - before}
    for batch in BATCHES:
        whisper.batch_size = batch
        for name, paths in sets.items():
            began, words = time.process_time(), 0
            for path in paths:
                words += len(whisper(Media(path, None, True, False), sounds[path], turns[path]).words)
            took = time.process_time() - began
            speech = sum(turn.end - turn.start for path in paths for turn in turns[path])
            figures |= {f"{name}_speech_s": speech, f"{name}_batch_{batch}": took / speech}
            figures[f"{name}_words_batch_{batch}"] = words
        # With the batches of a run: at most, and what stays.
        figures.setdefault("growth_mb", resident_mb("VmHWM") - before)
        figures.setdefault("stays_mb", resident_mb("RssAnon") - anonymous)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
