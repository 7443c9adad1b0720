"""Subtitles that pysubs2 reads: SubStation Alpha (``.ass``, ``.ssa``), MicroDVD and MPL2 (``.sub``).

pysubs2 gets text, never a path, and of SubStation only the lines of dialogue: styles and embedded fonts are
nothing said. A line longer than a subtitle can be is left out, since its patterns go over a line again and
again. Pure.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from annotator.records import Transcript

from .cues import Cue, bad, plain, words_of
from .subrip import parse_subviewer, text_lines

if TYPE_CHECKING:
    from pysubs2 import SSAEvent

_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_CLOCK = re.compile(r"[ \t]*-?\d{1,2}:(?:\d{1,2}:\d{1,2}[.,]\d{1,3}|\d\d:\d\d)[ \t]*", re.ASCII)
_LONGEST_LINE = 10_000  # characters
_PART = 5_000  # lines
_FRAME_S = 0.1  # what is shown shorter belongs to a picture that moves
# Text that crosses the picture, and what Aegisub's karaoke makes of syllables.
_NOT_SPEECH = ("fx", "banner", "scroll", "code", "template")
_MICRODVD = re.compile(r"[ \t]*\{[ \t]{0,9}\d+[ \t]{0,9}\}[ \t]{0,9}\{", re.ASCII)
_MPL2 = re.compile(r"\[\d+\]\[\d*\]", re.ASCII)
_LAST_S = 1e7  # times beyond are no times


def parse_ass(text: str, name: str = "the subtitles") -> Transcript:
    """SubStation Alpha: the Name field is the speaker; drawings and effects are left out, layers told once.

    Raises: RecordingError if no line is a dialogue.
    """
    lines = text_lines(text)
    dialogue = list(_dialogue(lines))
    count = sum(line.lstrip().startswith("Dialogue:") for line in lines)
    if not dialogue:
        if "[events]" in text.casefold() and not count:
            return Transcript((), "sidecar")
        raise bad(
            name, "no line is 'Dialogue: layer, start, end, style, name, ..., text' with times H:MM:SS.cc"
        )
    cues: list[Cue] = []
    places: dict[tuple[int, int, str], int] = {}
    moving: dict[tuple[str, str], int] = {}  # text and style: where the cue is that its next picture goes on
    for event in _read(dialogue, "ass"):
        caption = _said(event.text)
        if not caption or event.effect.strip().casefold().startswith(_NOT_SPEECH):
            continue
        speaker = " ".join(plain(event.name).split()) or None
        start, end = max(0, event.start), max(0, event.end)
        before = places.get((start, end, caption))
        if before is not None:
            if cues[before].speaker is None and speaker is not None:
                cues[before] = Cue(start / 1000, end / 1000, caption, speaker)
            continue
        last = moving.get((caption, event.style))
        if last is not None and end - start < 1000 * _FRAME_S and abs(cues[last].end - start / 1000) < 0.02:
            cues[last] = Cue(cues[last].start, end / 1000, caption, cues[last].speaker)
            continue
        places[start, end, caption] = moving[caption, event.style] = len(cues)
        cues.append(Cue(start / 1000, end / 1000, caption, speaker))
    complete = len(dialogue) == count
    del lines, dialogue, places, moving, text  # a large file is in memory only once
    words, flags = words_of(cues, name)
    if not complete and "dropped_cues" not in flags:
        flags = (*flags, "dropped_cues")
    return Transcript(words, "sidecar", None, flags)


def parse_sub(text: str, name: str = "the subtitles", frame_rate: float | None = None) -> Transcript:
    """MicroDVD, MPL2 or SubViewer, whichever a ``.sub`` file is.

    Args:
        frame_rate: of the pictures beside it, a second. MicroDVD counts frames; a file that tells its own
            rate (``{1}{1}25``) goes by that.

    Raises: RecordingError if it is none of them, or counts frames and nothing tells the rate.
    """
    from pysubs2.exceptions import UnknownFPSError

    lines = [line for line in text_lines(text) if len(line) <= _LONGEST_LINE]
    first = next((line for line in lines if line.strip()), "")
    form = "microdvd" if _MICRODVD.match(first) else "mpl2" if _MPL2.match(first) else None
    if form is None:
        return parse_subviewer(text, name)
    rate_line = re.match(r"[ \t]*\{1\}\{1\}[ \t]*\d", first, re.ASCII)
    try:
        events = _read(lines, form, None if rate_line else frame_rate)
        spans = ((e.start / 1000, e.end / 1000, _said(e.text)) for e in events)
        del lines  # a large file is in memory only once
        words, flags = words_of(
            (
                Cue(max(0.0, start), end, caption)
                for start, end, caption in spans
                if caption and end < _LAST_S
            ),
            name,
        )
    except UnknownFPSError:
        raise bad(
            name,
            "it counts frames and tells no frame rate; write it into the first line, such as {1}{1}25, or "
            "save it as .srt",
        ) from None
    except (ValueError, OverflowError, ZeroDivisionError):
        raise bad(name, "it counts frames that can't be made times") from None
    return Transcript(words, "sidecar", None, flags)


def _read(lines: Sequence[str], form: str, frame_rate: float | None = None) -> Iterator[SSAEvent]:
    """Events of a file, which pysubs2 gets in parts: it makes much of each line."""
    from pysubs2 import SSAFile

    for at in range(0, len(lines), _PART):
        text = "\n".join(lines[at : at + _PART])
        with warnings.catch_warnings():  # of margins that are no numbers
            warnings.simplefilter("ignore")
            part = SSAFile.from_string(text, format_=form, fps=frame_rate)
        frame_rate = part.fps  # as the first line may tell it
        yield from part.events


def _dialogue(lines: Sequence[str]) -> Iterator[str]:
    """Lines of dialogue with sound times, their fields in the usual order, whatever the file's is."""
    order: Sequence[str] = _FIELDS
    for line in lines:
        line = line.strip()
        if line.startswith("Format:") and "text" in line.casefold():
            order = [field.strip().casefold() for field in line[7:].split(",")]
            if len(set(order)) != len(order) or not {"start", "end", "text"} <= set(order):
                order = _FIELDS
        if not line.startswith("Dialogue:") or len(line) > _LONGEST_LINE:
            continue
        values = dict(zip(order, line[9:].split(",", len(order) - 1), strict=False))
        values |= {"layer": "0", "marginl": "0", "marginr": "0", "marginv": "0"}
        values["name"] = values.get("name") or values.get("actor") or ""
        if "text" in values and _CLOCK.fullmatch(values["start"]) and _CLOCK.fullmatch(values["end"]):
            yield "Dialogue: " + ",".join(values.get(field, "") for field in _FIELDS)


def _said(text: str) -> str:
    """The text of an event without overrides and drawings."""
    if "{" not in text:
        return re.sub(r"\\[Nn]", "\n", text.replace(r"\h", " ")).strip() if "\\" in text else text.strip()
    out: list[str] = []
    at, drawing = 0, False
    while at < len(text):
        opening = text.find("{", at)
        closing = text.find("}", opening) if opening >= 0 else -1
        end = opening if closing >= 0 else len(text)
        if not drawing:
            out.append(text[at:end])
        if closing < 0:
            break
        for mode in re.findall(r"\\p(\d+)", text[opening:closing]):
            drawing = int(mode[:9]) > 0
        at = closing + 1
    return re.sub(r"\\[Nn]", "\n", "".join(out).replace(r"\h", " ")).strip()
