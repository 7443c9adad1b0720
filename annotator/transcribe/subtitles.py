"""Subtitles and transcripts that are already there: beside a recording, or as a stream inside it.

    subrip.py      SubRip, WebVTT, SubViewer
    substation.py  SubStation Alpha, MicroDVD (pysubs2)
    markup.py      TTML, SAMI
    recognised.py  JSON of recognisers, NIST CTM

The parsers are pure: text in, transcript out. One that can't be read costs the transcript, not the recording.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotator import sidecars
from annotator.encodings import decode
from annotator.records import RecordingError, Transcript

from .cues import bad
from .markup import parse_sami, parse_ttml
from .recognised import parse_ctm, parse_json
from .subrip import parse_srt, parse_subviewer, parse_vtt
from .substation import parse_ass, parse_sub

MAX_BYTES = 50_000_000
# In order of preference, those that name speakers before others; JSON without word times comes last.
SUFFIXES = (
    ".json",
    ".ctm",
    ".vtt",
    ".ass",
    ".ssa",
    ".ttml",
    ".dfxp",
    ".srt",
    ".sbv",
    ".sub",
    ".smi",
    ".sami",
)
_UNREADABLE = "unreadable_transcript"
BROKEN = "it can't be read: the failures file says why"
_OTHER_JSON = "it is JSON, but of no kind of transcript that is known"
_VOBSUB = b"\x00\x00\x01\xba"


@dataclass(frozen=True)
class About:
    """What is known of a recording when its transcripts are read.

    Args:
        name: without folder and ending; what follows it in a file's name may be a language, and a CTM's
            lines are found by it.
        duration_s: to tell milliseconds by; None if it is not known.
        frame_rate: pictures a second, for subtitles that count them.
        language: that was asked for, ISO 639-1.
    """

    name: str | None = None
    duration_s: float | None = None
    frame_rate: float | None = None
    language: str | None = None


def read_sidecar(path: Path, recording: str | None = None) -> Transcript:
    """The transcript in a file, by its ending; the language from its name (``talk.en.srt``) if it tells none.

    Args:
        recording: the recording's name without folder and ending; the file's own by default.

    Raises: RecordingError if it can't be read, is over 50 MB, or is not what its ending says.
    """
    transcript = _read(path, About(recording))[0]
    if transcript is None:
        raise bad(path.name, _OTHER_JSON)
    return transcript


def from_sidecars(
    paths: Sequence[Path], recording: str, language: str | None = None, about: About | None = None
) -> Transcript:
    """The best of the files beside a recording that has words, or a transcript without any.

    Order: the wanted language, before one that is not told, before others; whole subtitles before forced ones
    (which hold only the foreign lines); word times in JSON, then as in ``SUFFIXES``, JSON without word times;
    those for the hard of hearing after plain ones; the default. What can't be read becomes a
    problem of the transcript, what is no transcript is passed over.
    """
    about = replace(about or About(), name=recording, language=language)
    # JSON has to be read to know what it is; the rest is read in order until one has words.
    read: dict[Path, tuple[Transcript, bool]] = {}
    problems: list[RecordingError] = []
    unused: list[tuple[str, str]] = []
    for path in paths:
        if path.suffix.lower() == ".json":
            try:
                transcript, word_times = _read(path, about)
            except RecordingError as error:
                problems.append(error)
                unused.append((path.name, BROKEN))
                continue
            if transcript is not None:
                read[path] = transcript, word_times
            else:
                unused.append((path.name, _OTHER_JSON))

    def rank(path: Path) -> tuple[int, bool, int, bool, bool, str]:
        name = sidecars.of(path.name, recording)
        file_language = read[path][0].language if path in read else name.language
        form = SUFFIXES.index(path.suffix.lower())
        return (
            _distance(file_language, language),
            name.forced,
            len(SUFFIXES) if path in read and not read[path][1] else form,
            name.hearing_impaired,
            not name.default,
            path.name,
        )

    candidates = sorted((p for p in paths if p in read or p.suffix.lower() in SUFFIXES[1:]), key=rank)
    best = Transcript()
    for path in candidates:
        try:
            read_now = read[path][0] if path in read else _read(path, about)[0]
        except RecordingError as error:
            problems.append(error)
            unused.append((path.name, BROKEN))
            continue
        if read_now is not None and read_now.words:
            best = replace(read_now, origin=path.name)
            break
        unused.append((path.name, "it has no words"))
    return with_remarks(best, problems, unused)


def after(transcript: Transcript, earlier: Transcript) -> Transcript:
    """A transcript with what is to be said of those that were looked at before it."""
    return replace(
        transcript,
        flags=tuple(dict.fromkeys((*earlier.flags, *transcript.flags))),
        problems=(*earlier.problems, *transcript.problems),
        unused=(*earlier.unused, *transcript.unused),
    )


def with_remarks(
    transcript: Transcript, problems: Sequence[RecordingError], unused: Sequence[tuple[str, str]]
) -> Transcript:
    """A transcript with what could not be read, and what was passed over and why."""
    flags = (*transcript.flags, _UNREADABLE) if problems else transcript.flags
    return replace(transcript, flags=flags, problems=tuple(problems), unused=tuple(unused))


def _read(path: Path, about: About) -> tuple[Transcript | None, bool]:
    """A file's transcript (None if it is JSON of another kind) and whether it is JSON with word times."""
    suffix, name = path.suffix.lower(), path.name
    if suffix not in SUFFIXES:
        raise bad(name, f"{suffix or 'no ending'} is none of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{name} can't be read ({reason}): allow it to be read, or remove it."
        raise RecordingError("transcribe", "unreadable_subtitles", message) from None
    if len(raw) > MAX_BYTES:
        raise bad(name, f"it has more than {MAX_BYTES // 1_000_000} MB")
    language = sidecars.of(path.name, about.name).language
    about = replace(about, language=language or about.language)
    transcript, timed = parsed(raw, suffix, name, about, path.stem)
    if transcript is not None and transcript.language is None:
        transcript = replace(transcript, language=language)
    return transcript, timed


def parsed(
    raw: bytes, suffix: str, name: str, about: About, recording: str
) -> tuple[Transcript | None, bool]:
    """What bytes of a kind hold. Of kinds that are taken for each other, the content says which it is."""
    if raw.startswith(_VOBSUB):
        raise bad(name, "it holds pictures of text (VobSub), no text")
    try:
        text, guessed = decode(raw, about.language)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        encoding = error.encoding.upper()
        raise bad(name, f"line {line} is not {encoding}, as the file's first bytes promise") from None
    del raw
    timed = False
    transcript: Transcript | None
    head = text[:2000].lstrip("\ufeff \t\r\n")
    if suffix == ".json":
        transcript, timed = parse_json(text, name, about.duration_s)
    elif suffix == ".ctm":
        transcript = parse_ctm(text, name, about.name if about.name is not None else recording)
    elif re.match(r"WEBVTT(?:\s|$)", head):
        transcript = parse_vtt(head + text[2000:], name)
    elif re.match(r"\[script info\]", head, re.IGNORECASE) or suffix in (".ass", ".ssa"):
        transcript = parse_ass(text, name)
    elif suffix in (".ttml", ".dfxp"):
        transcript = parse_ttml(text, name)
    elif suffix in (".smi", ".sami"):
        transcript = parse_sami(text, name, about.language)
    elif suffix == ".sub":
        transcript = parse_sub(text, name, about.frame_rate)
    elif suffix == ".sbv":
        transcript = parse_subviewer(text, name)
    elif suffix == ".vtt" and "-->" not in text:
        transcript = parse_vtt(text, name)  # which says what is amiss
    else:
        transcript = parse_srt(text, name)  # as some programs call WebVTT, too
    if transcript is not None and guessed:
        transcript = replace(transcript, flags=(*transcript.flags, "guessed_encoding"))
    return transcript, timed


def _distance(language: str | None, wanted: str | None) -> int:
    if wanted is None:
        # The one without a language in its name is as a rule the original.
        return 0 if language is None else 1
    return {wanted: 0, None: 1}.get(language, 2)
