"""From ffmpeg's stream of float samples to a file of 16-bit mono, with what is wrong with the sound."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from annotator.levels import CLIPPED_SHARE
from annotator.records import RATE_HZ, Audio, ChannelLevels, RecordingError, SetupError

_HEADER = struct.Struct(">4s5I")  # Sun/NeXT .au: magic, offset of the samples, size, encoding, rate, channels
_FLOAT_ENCODING = 6
_HELD_BYTES = 64 << 20  # of samples, before it is known when they start
_SILENCE_CHUNK = RATE_HZ * 60
_FULL_SCALE = 0.999
_SILENT_PEAK = 2 / 32768  # dither is not sound
_CANCELLED_SHARE = 0.08  # of what channels that have nothing in common would leave in their mix
_MOST_CHANNELS = 256
_STEP = RATE_HZ // 50  # samples for which the level of a channel is measured


class Sound:
    """Takes .au bytes of any number of channels at 16 kHz and writes a file of little-endian 16-bit mono.

    Channels are averaged; how loud each is stays known. When they cancel each other out (one is the other
    upside down), ``better_channel`` says so afterwards, and a second pass with that ``channel`` recovers the
    sound.

    Args:
        file: where the samples go; replaced.
        max_bytes: of that file.
        channel: take this one alone.
    """

    def __init__(self, file: Path, max_bytes: int, channel: int | None = None) -> None:
        self._path = file
        self._max_samples = max_bytes // 2
        self._channel = channel
        self._pending = bytearray()
        self._channels = 0  # unknown until the header has come
        self._start_s: float | None = None
        self._skip = 0  # samples that lie before presentation time 0
        self.samples = 0  # written, with the silence before a late start
        self._heard = 0  # of the recording itself
        self._peak = 0.0
        self._at_full_scale = 0
        self._bad = False
        self._energy = np.zeros(1)  # of the channels
        self._mixed_energy = 0.0
        self._first_two = 0.0  # the sum of the products of their samples
        self._silence_s = 0.0  # written before the first sample
        self._placed = False  # whether that silence has been written
        self._unmeasured = np.zeros((0, 1), np.float32)  # the begin of a step
        self._levels: list[NDArray[np.float16]] = []
        try:
            self._file = open(file, "wb")
        except OSError as error:
            raise self._disk_fault(error) from error

    def __enter__(self) -> Sound:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as fault:  # what was buffered did not fit
            if error is None:
                raise self._disk_fault(fault) from fault

    def starts(self, time_s: float) -> None:
        """Tell when the first sample sounds. Only the first call counts."""
        if self._start_s is None:
            self._start_s = time_s

    def feed(self, data: bytes) -> None:
        """Take the next bytes from ffmpeg."""
        self._pending += data
        if self._channels == 0 and not self._read_header():
            return
        if self._start_s is not None:
            self._write_whole_frames(self._start_s)
        elif len(self._pending) > _HELD_BYTES:
            raise RecordingError("decode", "no_timestamps", "ffmpeg does not tell when the sound starts.")

    def finish(self) -> None:
        """Write what is left after the last bytes.

        Raises: RecordingError when there is sound and it was never told when it starts.
        """
        if self._channels and self._start_s is not None:
            self._write_whole_frames(self._start_s)
        elif self._channels and len(self._pending) >= 4 * self._channels:
            raise RecordingError("decode", "no_timestamps", "ffmpeg does not tell when the sound starts.")
        try:
            self._file.flush()
        except OSError as error:
            raise self._disk_fault(error) from error

    @property
    def better_channel(self) -> int | None:
        """The louder channel when mixing both has cancelled the sound, else None."""
        if self._channel is not None or self._channels < 2 or self._peak < _SILENT_PEAK:
            return None
        unrelated = float(self._energy.sum()) / self._channels**2
        return int(np.argmax(self._energy)) if self._mixed_energy < _CANCELLED_SHARE * unrelated else None

    @property
    def flags(self) -> tuple[str, ...]:
        """``silent``, ``clipped`` and ``bad_samples``, as they apply."""
        flags = []
        if self._heard and self._peak < _SILENT_PEAK:
            flags.append("silent")
        if self._at_full_scale > CLIPPED_SHARE * self._heard:
            flags.append("clipped")
        if self._bad:
            flags.append("bad_samples")
        return tuple(flags)

    def audio(self) -> Audio | None:
        """The finished file, mapped read-only; None when nothing was heard."""
        if self._heard == 0:
            return None
        return Audio(np.memmap(self._path, dtype="<i2", mode="r"))

    def levels(self) -> ChannelLevels | None:
        """How loud each channel was from step to step; None for a single one."""
        if self._channels < 2 or self._heard == 0:
            return None
        norm = float(np.sqrt(self._energy[0] * self._energy[1]))
        return ChannelLevels(
            level_db=np.concatenate([np.zeros((0, self._channels), np.float16), *self._levels]),
            start_s=self._silence_s,
            step_s=_STEP / RATE_HZ,
            correlation=self._first_two / norm if norm > 0 else 0.0,
        )

    def _read_header(self) -> bool:
        if len(self._pending) < _HEADER.size:
            return False
        magic, offset, _, encoding, rate, channels = _HEADER.unpack_from(self._pending)
        if (magic, encoding, rate) != (
            b".snd",
            _FLOAT_ENCODING,
            RATE_HZ,
        ) or not 1 <= channels <= _MOST_CHANNELS:
            raise RecordingError("decode", "decoder_failed", "ffmpeg delivers sound in an unexpected form.")
        if len(self._pending) < offset:
            return False
        del self._pending[:offset]
        self._channels = channels
        self._energy = np.zeros(channels)
        self._unmeasured = np.zeros((0, channels), np.float32)
        return True

    def _write_whole_frames(self, start_s: float) -> None:
        if not self._placed:  # the first bytes after the header may hold no whole frame: this comes once
            self._placed = True
            first = round(start_s * RATE_HZ)
            self._skip = max(0, -first)
            self._write_silence(max(0, first))
            self._silence_s = max(0, first) / RATE_HZ
        width = 4 * self._channels
        whole = len(self._pending) // width * width
        if whole:
            samples = np.frombuffer(bytes(self._pending[:whole]), dtype=">f4").astype(np.float32)
            del self._pending[:whole]
            self._write(samples.reshape(-1, self._channels))

    def _write(self, samples: NDArray[np.float32]) -> None:
        """Clean, measure, mix and store ``samples`` (n, channels)."""
        drop = min(self._skip, len(samples))
        self._skip -= drop
        samples = samples[drop:]
        finite = np.isfinite(samples)
        if not finite.all():
            self._bad = True
            samples = np.where(finite, samples, np.float32(0))
        magnitude = np.abs(samples)
        self._heard += len(samples)
        self._peak = max(self._peak, float(magnitude.max(initial=0.0)))
        self._at_full_scale += int((magnitude >= _FULL_SCALE).any(axis=1).sum())
        samples = np.clip(samples, -1, 1)
        mixed = samples.mean(axis=1) if self._channel is None else samples[:, self._channel]
        self._energy += np.square(samples, dtype=np.float64).sum(axis=0)
        if self._channels > 1:
            self._first_two += float(np.dot(samples[:, 0].astype(np.float64), samples[:, 1]))
            self._measure(samples)
        self._mixed_energy += float(np.square(mixed, dtype=np.float64).sum())
        self._store(np.clip(np.rint(mixed * 32768), -32768, 32767).astype("<i2"))

    def _measure(self, samples: NDArray[np.float32]) -> None:
        """Note the level of each whole step."""
        waiting = np.concatenate([self._unmeasured, samples])
        whole = len(waiting) // _STEP * _STEP
        power = np.square(waiting[:whole]).reshape(-1, _STEP, self._channels).mean(axis=1)
        self._levels.append((10 * np.log10(np.maximum(power, 1e-12))).astype(np.float16))
        self._unmeasured = waiting[whole:]

    def _write_silence(self, count: int) -> None:
        self._make_room(count)
        zeros = np.zeros(min(count, _SILENCE_CHUNK), dtype="<i2")
        while count > 0:
            self._store(zeros[:count])
            count -= len(zeros)

    def _store(self, samples: NDArray[np.int16]) -> None:
        self._make_room(len(samples))
        try:
            self._file.write(samples.tobytes())
        except OSError as error:
            raise self._disk_fault(error) from error
        self.samples += len(samples)

    def _make_room(self, count: int) -> None:
        if self.samples + count > self._max_samples:
            hours = self._max_samples / RATE_HZ / 3600
            raise RecordingError(
                "decode", "too_long", f"The sound is longer than {hours:.3g} hours: cut the recording."
            )

    def _disk_fault(self, error: OSError) -> SetupError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return SetupError(
                f"The disk is full: make room in {self._path.parent}, then run the same command again."
            )
        return SetupError(f"Decoded sound can't be written to {self._path.parent}: {error.strerror}.")
