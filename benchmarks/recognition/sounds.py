"""Thirty sounds of eight seconds without speech. Everything is seeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ

from .references import Recording

Sound = NDArray[np.float64]
SECONDS = 8.0
T = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
Make = Callable[[np.random.Generator], Sound]


def at_level(sound: Sound, dbfs: float) -> Sound:
    """With that root mean square, in dB of full scale."""
    return sound * (10 ** (dbfs / 20) / (float(np.sqrt(np.mean(sound**2))) + 1e-12))


def noise(exponent: float, dbfs: float) -> Make:
    """Noise whose power falls with frequency to the exponent: 0 white, 1 pink, 2 brown."""

    def make(rng: np.random.Generator) -> Sound:
        spectrum = np.fft.rfft(rng.standard_normal(len(T)))
        frequency = np.fft.rfftfreq(len(T), 1 / RATE_HZ)
        spectrum *= np.where(frequency < 20, 0, np.maximum(frequency, 20) ** (-exponent / 2))
        return at_level(np.fft.irfft(spectrum, len(T)), dbfs)

    return make


def tones(frequencies: Sequence[float], dbfs: float, falling: float = 1.0) -> Make:
    """A steady sum of tones, each by ``falling`` weaker than the one before, at random phases."""

    def make(rng: np.random.Generator) -> Sound:
        sound = sum(
            falling**i * np.sin(2 * np.pi * f * T + rng.uniform(0, 2 * np.pi))
            for i, f in enumerate(frequencies)
        )
        return at_level(np.asarray(sound), dbfs)

    return make


def hum(mains_hz: float, dbfs: float) -> Make:
    return tones([mains_hz * n for n in range(1, 12)], dbfs, falling=0.7)


def swept(low_hz: float, high_hz: float, times: int, dbfs: float) -> Make:
    """A tone that goes up, and down again, in equal steps of pitch."""

    def make(rng: np.random.Generator) -> Sound:
        place = 1 - np.abs(1 - 2 * ((T * times / SECONDS) % 1))
        return at_level(np.sin(2 * np.pi * np.cumsum(low_hz * (high_hz / low_hz) ** place) / RATE_HZ), dbfs)

    return make


def beeps(frequency: float, each_s: float, dbfs: float) -> Make:
    return lambda rng: at_level(np.sin(2 * np.pi * frequency * T) * ((T / each_s) % 1 < 0.4), dbfs)


def placed(events: Sequence[tuple[float, Sound]], dbfs: float) -> Sound:
    """Short sounds at their seconds."""
    out = np.zeros(len(T))
    for at, sound in events:
        first = round(at * RATE_HZ)
        part = sound[: len(out) - first]
        out[first : first + len(part)] += part
    return at_level(out, dbfs)


def plucked(rng: np.random.Generator, frequency: float, seconds: float = 1.5) -> Sound:
    """A string by Karplus and Strong (1983): a burst of noise in a loop that averages neighbours."""
    from scipy.signal import lfilter

    period = round(RATE_HZ / frequency)
    burst = np.zeros(round(seconds * RATE_HZ))
    burst[:period] = rng.uniform(-1, 1, period)
    loop = np.zeros(period + 2)
    loop[0], loop[period:] = 1, -0.498
    return np.asarray(lfilter([1.0], loop, burst))


SCALE_HZ = [220 * 2 ** (step / 12) for step in (0, 2, 4, 5, 7, 9, 11, 12)]


def melody(each_s: float, octave: float, dbfs: float) -> Make:
    """Plucked strings."""

    def make(rng: np.random.Generator) -> Sound:
        starts = np.arange(0, SECONDS - 0.1, each_s)
        return placed([(s, plucked(rng, octave * rng.choice(SCALE_HZ))) for s in starts], dbfs)

    return make


def strummed(rng: np.random.Generator) -> Sound:
    events = []
    for bar in range(8):
        root = rng.integers(0, 4)
        notes = [SCALE_HZ[root + step] / 2 for step in (0, 2, 4)] + [SCALE_HZ[root]]
        events += [(bar + 0.02 * i, plucked(rng, note)) for i, note in enumerate(notes)]
    return placed(events, -20)


def chords(vibrato: float, dbfs: float) -> Make:
    """Synthetic chords of harmonic tones, two seconds each, with vibrato."""

    def make(rng: np.random.Generator) -> Sound:
        events = []
        for bar in range(4):
            t = T[: 2 * RATE_HZ]
            root = rng.integers(0, 4)
            chord = np.zeros(len(t))
            for note in (SCALE_HZ[root], SCALE_HZ[root + 2], SCALE_HZ[root + 4]):
                phase = 2 * np.pi * note * t + vibrato * np.sin(2 * np.pi * 5.5 * t)
                chord += sum(np.sin(n * phase) / n**1.5 for n in range(1, 9))
            events.append((2.0 * bar, chord * np.minimum(1, np.minimum(t, 2 - t) / 0.1)))
        return placed(events, dbfs)

    return make


def burst(rng: np.random.Generator, low_hz: float, high_hz: float, decay_s: float) -> Sound:
    """Noise of a band that dies away: a clap, a knock, a key, a drop."""
    from scipy.signal import butter, sosfilt

    t = np.arange(round(8 * decay_s * RATE_HZ)) / RATE_HZ
    band = butter(2, [low_hz, high_hz], "bandpass", fs=RATE_HZ, output="sos")
    return np.asarray(sosfilt(band, rng.standard_normal(len(t)) * np.exp(-t / decay_s)))


def bursts(low_hz: float, high_hz: float, decay_s: float, each_s: float, dbfs: float) -> Make:
    """Bursts at random, so many seconds apart on average."""

    def make(rng: np.random.Generator) -> Sound:
        starts = np.sort(rng.uniform(0, SECONDS - 0.1, round(SECONDS / each_s)))
        events = [(s, rng.uniform(0.3, 1) * burst(rng, low_hz, high_hz, decay_s)) for s in starts]
        return placed(events, dbfs)

    return make


def rain(rng: np.random.Generator) -> Sound:
    return noise(0.6, -32)(rng) + bursts(1500, 6000, 0.004, 0.02, -34)(rng)


def wind(rng: np.random.Generator) -> Sound:
    """Low noise that swells and falls."""
    swell = 1 + 0.8 * np.sin(2 * np.pi * 0.23 * T + 1) * np.sin(2 * np.pi * 0.11 * T)
    return at_level(noise(2, -20)(rng) * swell**2, -24)


def beat(rng: np.random.Generator) -> Sound:
    """Drums and a plucked bass, two beats a second."""
    events = []
    for step in range(31):
        at = step / 4
        if step % 4 == 0:
            events.append((at, 3 * burst(rng, 40, 120, 0.06)))
        if step % 4 == 2:
            events.append((at, burst(rng, 800, 5000, 0.04)))
        events.append((at, 0.3 * burst(rng, 5000, 7800, 0.01)))
        if step % 2 == 0:
            events.append((at, plucked(rng, SCALE_HZ[rng.integers(0, 8)] / 4, 0.5)))
    return placed(events, -20)


SOUNDS: dict[str, Make] = {
    "silence": lambda rng: np.zeros(len(T)),
    "faint_noise": noise(0, -78),
    "hum_50": hum(50, -26),
    "hum_60": hum(60, -26),
    "hum_50_faint": hum(50, -50),
    "white_faint": noise(0, -55),
    "white": noise(0, -35),
    "white_loud": noise(0, -14),
    "pink_faint": noise(1, -55),
    "pink": noise(1, -35),
    "pink_loud": noise(1, -16),
    "brown_faint": noise(2, -50),
    "brown": noise(2, -32),
    "brown_loud": noise(2, -16),
    "sweep": swept(60, 7000, 1, -20),
    "siren": swept(500, 1400, 6, -20),
    "warble": swept(120, 400, 24, -20),
    "tone": tones([440], -20),
    "tone_low": tones([110], -20),
    "dial_tone": tones([350, 440], -20),
    "beeps": beeps(1000, 0.5, -22),
    "plucked_slow": melody(1.0, 1, -22),
    "plucked_fast": melody(0.2, 2, -20),
    "strummed": strummed,
    "chords": chords(0.0, -20),
    "chords_vibrato": chords(0.3, -20),
    "beat": beat,
    "claps": bursts(700, 4000, 0.02, 0.12, -22),
    "rain": rain,
    "wind": wind,
}


def sounds(every: int = 1, seed: int = 17) -> list[Recording]:
    """The sounds, or every n-th, in 16 bits."""
    out = []
    for number, (name, make) in enumerate(SOUNDS.items()):
        if number % every == 0:
            sound = make(np.random.default_rng([seed, number]))
            samples = np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)
            out.append(Recording(name, samples, "", ()))
    return out
