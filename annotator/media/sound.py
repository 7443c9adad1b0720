"""From ffmpeg's stream of float samples to a file of 16-bit mono, with what is wrong with the sound."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Audio, RecordingError, SetupError

_HEADER = struct.Struct(">4s5I")  # Sun/NeXT .au: magic, offset of the samples, size, encoding, rate, channels
_FLOAT_ENCODING = 6
_HELD_BYTES = 64 << 20  # of samples, before it is known when they start
_SILENCE_CHUNK = RATE_HZ * 60
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.001  # of samples at full scale
_SILENT_PEAK = 2 / 32768  # dither is not sound
_CANCELLED_SHARE = 0.02  # of a channel's energy that is left in the mix of both


class Sound:
    """Takes .au bytes of one or two channels at 16 kHz and writes a file of little-endian 16-bit mono.

    Channels are averaged. When they cancel each other out (one is the other upside down), ``better_channel``
    says so afterwards, and a second pass with that ``channel`` recovers the sound.

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
        self._energy = np.zeros(2)  # of the channels
        self._mixed_energy = 0.0
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
        """Write what is left after the last bytes."""
        if self._channels:
            self._write_whole_frames(self._start_s or 0.0)
        try:
            self._file.flush()
        except OSError as error:
            raise self._disk_fault(error) from error

    @property
    def better_channel(self) -> int | None:
        """The louder channel when mixing both has cancelled the sound, else None."""
        loudest = int(np.argmax(self._energy))
        if self._channel is not None or self._channels < 2 or self._peak < _SILENT_PEAK:
            return None
        return loudest if self._mixed_energy < _CANCELLED_SHARE * self._energy[loudest] else None

    @property
    def flags(self) -> tuple[str, ...]:
        """``silent``, ``clipped`` and ``bad_samples``, as they apply."""
        flags = []
        if self._heard and self._peak < _SILENT_PEAK:
            flags.append("silent")
        if self._at_full_scale > _CLIPPED_SHARE * self._heard:
            flags.append("clipped")
        if self._bad:
            flags.append("bad_samples")
        return tuple(flags)

    def audio(self) -> Audio | None:
        """The finished file, mapped read-only; None when nothing was heard."""
        if self._heard == 0:
            return None
        return Audio(np.memmap(self._path, dtype="<i2", mode="r"))

    def _read_header(self) -> bool:
        if len(self._pending) < _HEADER.size:
            return False
        magic, offset, _, encoding, rate, channels = _HEADER.unpack_from(self._pending)
        if (magic, encoding, rate) != (b".snd", _FLOAT_ENCODING, RATE_HZ) or channels not in (1, 2):
            raise RecordingError("decode", "decoder_failed", "ffmpeg delivers sound in an unexpected form.")
        if len(self._pending) < offset:
            return False
        del self._pending[:offset]
        self._channels = channels
        return True

    def _write_whole_frames(self, start_s: float) -> None:
        if self._heard == 0 and self._skip == 0:
            first = round(start_s * RATE_HZ)
            self._skip = max(0, -first)
            self._write_silence(max(0, first))
            self._start_s = 0.0  # the offset is spent
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
        self._energy[: self._channels] += np.square(samples, dtype=np.float64).sum(axis=0)
        self._mixed_energy += float(np.square(mixed, dtype=np.float64).sum())
        self._store(np.clip(np.rint(mixed * 32768), -32768, 32767).astype("<i2"))

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
