"""Speakers by channel: calls and interviews that give each person a channel of their own.

Where speech is, a diarizer says of the mix; who it is, the channels say by how loud they are. What one
microphone picks up from the next speaker (cross-talk) is weaker by about the same measure throughout, so it
is measured, and a channel counts as speaking only when it is louder than the others' cross-talk explains.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.records import ChannelLevels, Turn

_WINDOW_S = 0.25  # over which levels are averaged: about a syllable
_ABOVE_NOISE_DB = 9.0
_BELOW_SPEECH_DB = 30.0  # of a channel's loud speech: quieter is not speech
_ABOVE_LEAK_DB = 6.0
_MOST_GAIN_DB = 12.0  # by which microphones are evened out
_APART_DB = 6.0  # by which one of two channels is louder when its own speaker speaks
_APART_SHARE = 0.7  # of the loud moments in which that must be so
_LEAST_SHARE = 0.05  # of them that each speaker has
_LEAST_S = 1.0  # that each is heard
_MOST_ALIKE = 0.5  # correlation of the channels: a mix that is only placed left and right has more
_GAP_S, _BIT_S = 0.3, 0.2  # pauses that don't end a turn, and turns that are none


def channel_name(channel: int) -> str:
    """What the speaker of a channel (from 0) is called.

    >>> channel_name(0)
    'CHANNEL_1'
    """
    return f"CHANNEL_{channel + 1}"


def one_speaker_a_channel(levels: ChannelLevels) -> bool:
    """Whether the two channels of a recording hold one speaker each.

    They have little in common, and in most loud moments one is clearly louder, now this one, now that one.
    """
    if levels.level_db.shape[1] != 2 or abs(levels.correlation) > _MOST_ALIKE:
        return False
    smooth = _smoothed(levels)
    loud = _loud(smooth).any(axis=1)
    if not loud.any():
        return False
    difference = (smooth[:, 0] - smooth[:, 1])[loud]
    sides = np.array([(difference > _APART_DB).sum(), (difference < -_APART_DB).sum()])
    enough = max(_LEAST_SHARE * len(difference), _LEAST_S / levels.step_s)
    return bool(sides.sum() >= _APART_SHARE * len(difference) and sides.min() >= enough)


def by_channel(speech: Sequence[Turn], levels: ChannelLevels) -> tuple[list[Turn], list[Turn]]:
    """The turns of each channel's speaker within ``speech``: as they overlap, and one at a time.

    Args:
        speech: turns of anybody, as found in the mix.
    """
    if not len(levels.level_db):
        return [], []
    smooth = _smoothed(levels)
    active, owner = _active(smooth)
    # A diarizer that hears the mix also counts pauses and noise at the edges as speech.
    inside = _inside(speech, levels, len(smooth)) & _loud(smooth).any(axis=1)
    turns, alone = [], []
    for channel in range(smooth.shape[1]):
        # Where no channel stands out, it is whoever is loudest.
        heard = inside & (active[:, channel] | (~active.any(axis=1) & (owner == channel)))
        turns += _turns(heard, levels, channel_name(channel), _GAP_S, _BIT_S)
        alone += _turns(inside & (owner == channel), levels, channel_name(channel))
    return sorted(turns), sorted(alone)


def _smoothed(levels: ChannelLevels) -> NDArray[np.float32]:
    """Levels (n, c) in dB, averaged as power over a syllable."""
    power = 10.0 ** (levels.level_db.astype(np.float64) / 10)
    half = max(1, round(_WINDOW_S / levels.step_s / 2))
    sums = np.concatenate([np.zeros((1, power.shape[1])), power.cumsum(axis=0)])
    place = np.arange(len(power))
    first, last = np.maximum(place - half, 0), np.minimum(place + half + 1, len(power))
    mean = (sums[last] - sums[first]) / (last - first)[:, None]
    return np.asarray(10 * np.log10(np.maximum(mean, 1e-12)), np.float32)


def _loud(smooth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where each channel (n, c) is above its noise and not far below the loudest speech of all."""
    noise = np.quantile(smooth, 0.1, axis=0)
    speech = np.quantile(smooth, 0.95, axis=0).max()
    return np.asarray((smooth > noise + _ABOVE_NOISE_DB) & (smooth > speech - _BELOW_SPEECH_DB))


def _active(smooth: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which channels' speakers speak (n, c), and whose channel stands out most (n,)."""
    loud = _loud(smooth)
    high = np.quantile(smooth, 0.95, axis=0)
    # Microphones differ; one that holds only cross-talk must not be raised to a speaker's level.
    even = smooth - np.maximum(high, high.max() - _MOST_GAIN_DB)
    owner = even.argmax(axis=1)
    active = loud.copy()
    for other in range(smooth.shape[1]):
        alone = loud[:, other] & (owner == other)
        if not alone.any():
            continue
        leak = np.median(smooth[alone] - smooth[alone, other : other + 1], axis=0)
        above = smooth > smooth[:, other : other + 1] + leak + _ABOVE_LEAK_DB
        above[:, other] = True
        active &= above | ~loud[:, other : other + 1]
    return active, owner


def _inside(speech: Sequence[Turn], levels: ChannelLevels, steps: int) -> NDArray[np.bool_]:
    inside = np.zeros(steps, np.bool_)
    for turn in speech:
        first = max(0, round((turn.start - levels.start_s) / levels.step_s))
        inside[first : max(first, round((turn.end - levels.start_s) / levels.step_s))] = True
    return inside


def _turns(
    heard: NDArray[np.bool_], levels: ChannelLevels, name: str, gap_s: float = 0.0, bit_s: float = 0.0
) -> list[Turn]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], heard, [False]]).astype(np.int8)))
    spans: list[list[float]] = []
    for first, last in edges.reshape(-1, 2):
        start, end = (levels.start_s + float(step) * levels.step_s for step in (first, last))
        if spans and start - spans[-1][1] < gap_s:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return [Turn(round(a, 3), round(b, 3), name) for a, b in spans if b - a >= bit_s]
