"""Conversations with known turns: real ones of AMI, and ones assembled from single sentences.

    ami        clips of real meetings, 30 s each
    assemble   a meeting of ten minutes: room echo and noise
    call       two people on the telephone: narrow band, mu-law, turns of 0.5 to 8 s
    scene      four to six people in 20 to 40 s

A seed gives the same conversation each time. Sentences are acted, so that a voice changes its mood from
one sentence to the next: harder than most talk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator import records

RATE_HZ = records.RATE_HZ
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TUNED_ON = range(1, 17)  # RAVDESS actors whose conversations served to choose the settings
REPORTED = range(17, 21)  # RAVDESS actors of those that are reported
TUNED_ON_NEMO, REPORTED_NEMO = ("EB0", "IC0", "KD0", "MK0"), ("TP0", "WR0")
REPORTED_EMODB = ("13", "14")  # of calls and scenes; meetings have all eight

TELEPHONE_HZ, TELEPHONE_BAND_HZ, MU = 8_000, (300, 3400), 255


@dataclass(frozen=True)
class Sentence:
    speaker: str
    path: Path


@dataclass(frozen=True)
class Meeting:
    name: str
    audio: records.Audio
    turns: list[records.Turn]  # who really speaks when
    scored: tuple[float, float]  # seconds


def read_flac(path: Path) -> NDArray[np.int16]:
    import soundfile

    samples, rate = soundfile.read(path, dtype="int16")
    if rate != RATE_HZ or samples.ndim != 1:
        raise SystemExit(f"{path} is not 16 kHz mono")
    return np.asarray(samples, np.int16)


def ami(data: Path) -> list[Meeting]:
    """The 14 clips with their turns and scored regions."""
    folder = data / "meetings" / "ami"
    scored: dict[str, tuple[float, float]] = {}
    turns: dict[str, list[records.Turn]] = {}
    for split in ("train", "dev", "test"):
        for line in (folder / f"{split}.uem").read_text().splitlines():
            name, _, start, end = line.split()
            scored[name] = (float(start), float(end))
        for line in (folder / f"{split}.rttm").read_text().splitlines():
            _, name, _, start, duration, _, _, speaker = line.split()[:8]
            turns.setdefault(name, []).append(
                records.Turn(float(start), float(start) + float(duration), speaker)
            )
    return [
        Meeting(name, records.Audio(read_flac(folder / "clips" / f"{name}.flac")), turns[name], scored[name])
        for name in sorted(scored)
    ]


def ravdess(data: Path, actors: Iterable[int]) -> list[Sentence]:
    """The sentences of some RAVDESS actors; the actor is the last number of the file name."""
    wanted = set(actors)
    files = sorted((data / "speech" / "ravdess").glob("*.flac"))
    return [Sentence(f"ravdess{path.stem[-2:]}", path) for path in files if int(path.stem[-2:]) in wanted]


def emodb(data: Path) -> list[Sentence]:
    """All EmoDB sentences; the speaker is the first two digits of the file name."""
    files = sorted((data / "speech" / "emodb").glob("*.flac"))
    return [Sentence(f"emodb{path.stem[:2]}", path) for path in files]


def trimmed(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """A sentence without the silence at its ends, for exact turns.

    Sound is within 30 dB of the loud parts for most of 0.2 s: what noise hides, and clicks, are silence.
    """
    x = samples.astype(np.float32) / np.float32(32768)
    frames = x[: len(x) // 160 * 160].reshape(-1, 160)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = level > np.percentile(level, 95) - 30
    steady = np.flatnonzero(loud & (np.convolve(loud, np.ones(21), mode="same") > 10))
    return x[max(0, steady[0] - 2) * 160 : (steady[-1] + 3) * 160]


def assemble(sentences: list[Sentence], speakers: int, seed: int, seconds: float = 600.0) -> Meeting:
    """A made meeting: turns of one to four sentences, then a pause, a gap or an overlap.

    Each voice has its own level (+-3 dB) and its own echo (a decaying noise, 0.2 to 0.4 s to -60 dB);
    pink noise lies 18 to 28 dB under the speech. A turn runs over its own pauses (0.1 to 0.7 s).
    """
    rng = np.random.default_rng(seed)
    names = sorted({sentence.speaker for sentence in sentences})
    chosen = [str(name) for name in rng.choice(names, size=speakers, replace=False)]
    pool = {name: [s.path for s in sentences if s.speaker == name] for name in chosen}
    share = rng.dirichlet(np.full(speakers, 4.0))  # some talk more than others
    gain = {name: 10 ** (rng.uniform(-3, 3) / 20) for name in chosen}
    echo = {name: echo_of_a_place(rng) for name in chosen}

    total = np.zeros(round(seconds * RATE_HZ), np.float32)
    turns: list[records.Turn] = []
    position, previous = rng.uniform(0.5, 2.0), ""
    while True:
        weights = np.array([0.0 if name == previous else s for name, s in zip(chosen, share, strict=True)])
        speaker = str(rng.choice(chosen, p=weights / weights.sum()))
        start = position
        for _ in range(1 + rng.integers(0, 4)):
            sound = trimmed(read_flac(pool[speaker][rng.integers(len(pool[speaker]))]))
            sound *= gain[speaker] * 0.08 / (np.sqrt((sound**2).mean()) + 1e-9)
            first = round(position * RATE_HZ)
            if first + len(sound) + RATE_HZ >= len(total):
                return mixed(total, turns, rng, seconds, f"seed {seed}, {speakers} speakers")
            wet = np.convolve(sound, echo[speaker])[: len(sound) + RATE_HZ // 2].astype(np.float32)
            end = min(len(total), first + len(wet))
            total[first:end] += wet[: end - first]
            start_s, end_s = first / RATE_HZ, (first + len(sound)) / RATE_HZ
            if turns and turns[-1].speaker == speaker:
                turns[-1] = records.Turn(turns[-1].start, end_s, speaker)
            else:
                turns.append(records.Turn(start_s, end_s, speaker))
            position = end_s + rng.uniform(0.1, 0.7)
        spoken = turns[-1].end - start
        kind = rng.random()
        if kind < 0.2:
            position = turns[-1].end - rng.uniform(0.2, min(1.5, spoken / 2))
        elif kind < 0.9:
            position = turns[-1].end + rng.uniform(0.1, 1.0)
        else:
            position = turns[-1].end + rng.uniform(2.0, 6.0)
        previous = speaker


def echo_of_a_place(rng: np.random.Generator) -> NDArray[np.float64]:
    """Direct sound and an exponentially decaying tail 10 to 16 dB under it in total."""
    decay_s = rng.uniform(0.2, 0.4)
    t = np.arange(round(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / decay_s)
    tail *= 10 ** (-rng.uniform(10, 16) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail


def pink(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise whose power falls with frequency, of deviation 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return np.asarray(noise / noise.std())


def mixed(
    speech: NDArray[np.float32],
    turns: list[records.Turn],
    rng: np.random.Generator,
    seconds: float,
    name: str,
) -> Meeting:
    """Adds pink noise (power falling with frequency) and rounds to 16 bits."""
    noise = pink(len(speech), rng) * 0.08 * 10 ** (-rng.uniform(18, 28) / 20)
    samples = np.clip((speech + noise) * 32768, -32768, 32767).astype(np.int16)
    return Meeting(name, records.Audio(samples), turns, (0.0, seconds))


def nemo(data: Path, speakers: Iterable[str]) -> list[Sentence]:
    """The sentences of some nEMO speakers; the speaker is the first part of the file name."""
    wanted = set(speakers)
    files = sorted((data / "speech" / "nemo").glob("*.flac"))
    return [
        Sentence(f"nemo{path.stem.split('_')[0]}", path)
        for path in files
        if path.stem.split("_")[0] in wanted
    ]


def voices_for_calls(data: Path, tuning: bool) -> list[Sentence]:
    """Sentences of calls and scenes: speakers that settings come from, or those that are reported."""
    if tuning:
        return ravdess(data, TUNED_ON) + nemo(data, TUNED_ON_NEMO)
    german = [s for s in emodb(data) if s.speaker.removeprefix("emodb") in REPORTED_EMODB]
    return ravdess(data, REPORTED) + german + nemo(data, REPORTED_NEMO)


def call(sentences: list[Sentence], seed: int) -> Meeting:
    """A made call of 30 s to 3 min: two voices, turns of 0.5 to 8 s, overlaps, short words put in.

    Each end has its own level (+-5 dB), tilt (+-3 dB an octave above 1 kHz at most) and noise (20 to 35 dB
    under the speech). Both pass the band of a telephone at 8 kHz, are added and coded by mu-law (G.711).
    """
    from scipy.signal import butter, resample_poly, sosfilt

    rng = np.random.default_rng([1, seed])
    chosen = _chosen(sentences, 2, rng)
    seconds = float(np.exp(rng.uniform(np.log(30), np.log(180))))
    lines, turns = _talk(sentences, chosen, seconds, rng, longest_s=8.0)
    band = butter(4, TELEPHONE_BAND_HZ, "bandpass", fs=TELEPHONE_HZ, output="sos")
    whole = np.zeros(-(-len(lines[chosen[0]]) // 2))
    for name in chosen:
        end = resample_poly(lines[name], 1, 2)
        end += pink(len(end), rng) * 0.08 * 10 ** (-rng.uniform(20, 35) / 20)
        tilt = rng.uniform(-0.3, 0.3)
        end = sosfilt(band, end - tilt * np.concatenate([[0.0], end[:-1]]))
        whole += end * 10 ** (rng.uniform(-5, 5) / 20)
    whole = np.clip(whole, -1, 1)
    coded = np.round(127.5 * np.sign(whole) * np.log1p(MU * np.abs(whole)) / np.log1p(MU) - 0.5) + 0.5
    whole = np.sign(coded) * np.expm1(np.abs(coded) / 127.5 * np.log1p(MU)) / MU
    samples = np.clip(resample_poly(whole, 2, 1) * 32768, -32768, 32767).astype(np.int16)
    return Meeting(f"call {seed}", records.Audio(samples), turns, (0.0, len(samples) / RATE_HZ))


def scene(sentences: list[Sentence], seed: int) -> Meeting:
    """A made scene of 20 to 40 s: four to six voices, each heard at least once, echo and noise."""
    from scipy.signal import fftconvolve

    rng = np.random.default_rng([2, seed])
    chosen = _chosen(sentences, 4 + seed % 3, rng)
    seconds = float(rng.uniform(20, 40))
    lines, turns = _talk(sentences, chosen, seconds, rng, longest_s=5.0)
    total = np.zeros(len(lines[chosen[0]]), np.float32)
    for name in chosen:
        wet = fftconvolve(lines[name], echo_of_a_place(rng))[: len(total)]
        total += (wet * 10 ** (rng.uniform(-3, 3) / 20)).astype(np.float32)
    return mixed(total, turns, rng, len(total) / RATE_HZ, f"scene {seed}")


def _chosen(sentences: list[Sentence], count: int, rng: np.random.Generator) -> list[str]:
    names = sorted({sentence.speaker for sentence in sentences})
    return [str(name) for name in rng.choice(names, size=count, replace=False)]


def _talk(
    sentences: list[Sentence], chosen: list[str], seconds: float, rng: np.random.Generator, longest_s: float
) -> tuple[dict[str, NDArray[np.float32]], list[records.Turn]]:
    """What each of the speakers says, by name, and the turns, in time order.

    The first turns go round; a turn is as long as its draw (0.5 s to ``longest_s``, short ones more often):
    sentences with pauses of 0.1 to 0.4 s, the last one ended at a quiet place. Of the changes, 20 % overlap,
    10 % put a short turn inside another's, the rest have a gap of up to 1 s, seldom 3.
    """
    pool = {name: [s.path for s in sentences if s.speaker == name] for name in chosen}
    lines = {name: np.zeros(round(seconds * RATE_HZ), np.float32) for name in chosen}
    turns: list[records.Turn] = []
    position, number, previous = float(rng.uniform(0.2, 1.0)), 0, ""
    while True:
        others = [name for name in chosen if name != previous]
        speaker = chosen[number] if number < len(chosen) else str(rng.choice(others))
        fair = max(1.5, 0.7 * seconds / len(chosen))  # so that everybody gets a word in
        wanted = float(np.exp(rng.uniform(np.log(0.5), np.log(longest_s))))
        wanted = float(np.clip(wanted, 1.5, fair)) if number < len(chosen) else wanted
        last = turns[-1] if turns else None
        inside = (
            number >= len(chosen) and last is not None and rng.random() < 0.1 and last.end - last.start > 3
        )
        if inside and last is not None:
            wanted = float(rng.uniform(0.5, 1.0))
            position = float(rng.uniform(last.start + 0.5, last.end - 1.5))
        sound = _said(pool[speaker], wanted, rng)
        own = max((turn.end for turn in turns if turn.speaker == speaker), default=-1.0)
        first = round(max(position, own + 0.1) * RATE_HZ)
        if first + len(sound) > len(lines[speaker]):
            return lines, sorted(turns)
        lines[speaker][first : first + len(sound)] += sound
        turn = records.Turn(first / RATE_HZ, (first + len(sound)) / RATE_HZ, speaker)
        if inside and last is not None:
            turns.insert(len(turns) - 1, turn)
            position = last.end + rng.uniform(0.1, 1.0)
            previous = last.speaker
        else:
            turns.append(turn)
            position, previous = turn.end + _gap(turn, rng), speaker
        number += 1


def _gap(turn: records.Turn, rng: np.random.Generator) -> float:
    """Seconds from the end of a turn to the start of the next; negative where they overlap."""
    kind = rng.random()
    if kind < 0.2:
        return -float(rng.uniform(0.1, min(1.0, (turn.end - turn.start) / 2)))
    return float(rng.uniform(0.05, 1.0) if kind < 0.9 else rng.uniform(1.0, 3.0))


def _said(paths: list[Path], wanted_s: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sentences of one speaker one after the other, about as long as wanted."""
    parts: list[NDArray[np.float32]] = []
    left = wanted_s
    while left > 0.3 or not parts:
        sound = trimmed(read_flac(paths[rng.integers(len(paths))]))
        sound *= 0.08 / (np.sqrt((sound**2).mean()) + 1e-9)
        if len(sound) / RATE_HZ > left:
            # At the quietest 30 ms near the end that is wanted.
            at = round(left * RATE_HZ)
            low, high = max(round(0.4 * RATE_HZ), at - 4000), min(len(sound), max(at, 8000) + 4000)
            power = np.convolve(sound[low:high] ** 2, np.ones(480), mode="same")
            sound = sound[: low + int(power.argmin())]
            end = min(len(sound), 320)
            sound[len(sound) - end :] *= np.linspace(1, 0, end, dtype=np.float32)
        parts.append(sound)
        left -= len(sound) / RATE_HZ
        if left > 0.3:
            pause = float(rng.uniform(0.1, 0.4))
            parts.append(np.zeros(round(pause * RATE_HZ), np.float32))
            left -= pause
    return np.concatenate(parts)
