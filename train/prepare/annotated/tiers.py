"""ELAN's EAF, read by pympi-ling, and Praat's TextGrid, read by praatio: tiers of speakers and labels."""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from annotator.records import UsageError
from train.prepare.annotated.layout import AnnotatedUtterance, Names, Stretch, joined, text_of

_SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"


def read_eaf(raw: bytes, stem: str, names: Names) -> list[AnnotatedUtterance]:
    """Utterances of an ELAN file.

    A tier's speaker is its participant, else what its name says; a tier below another is of the same
    speaker. Its recording is the first linked one.

    Raises:
        UsageError: it is no EAF, or has a document type (which could hold endless entities).
    """
    from xml.etree import ElementTree

    text = text_of(raw)
    if re.search("<!(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise UsageError("it declares a document type, which ELAN never does: it is not read.")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UsageError(f"it is no XML ({error}).") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise UsageError("it is no EAF: its root is not ANNOTATION_DOCUMENT.")
    root.attrib.setdefault(
        _SCHEMA, "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
    )  # pympi needs it, not all have it
    root.attrib.setdefault("VERSION", "3.0")
    import pympi

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = Path(folder) / "read.eaf"
        place.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
        try:
            document = pympi.Elan.Eaf(str(place))
            _time_all(document.timeslots)
            content = {
                name: [
                    Stretch(first / 1000, last / 1000, value.strip())
                    for first, last, value, *_ in document.get_annotation_data_for_tier(name)
                    if value and value.strip() and last > first
                ]
                for name in document.get_tier_names()
            }
        except Exception as error:  # it checks nothing and raises whatever comes
            raise UsageError(f"it can't be read as an EAF ({type(error).__name__}: {error}).") from error
    facts = {name: document.tiers[name][2] for name in content}

    def of(name: str) -> tuple[str | None, str | None]:
        speaker, meaning = names.split(name)
        kind = names.meaning(facts[name].get("LINGUISTIC_TYPE_REF", ""))
        parent = facts[name].get("PARENT_REF")
        if meaning is None and kind in ("label", "sentiment") and parent is not None:
            meaning = kind
        above = speaker
        if parent in facts:
            above = facts[parent].get("PARTICIPANT") or names.split(parent)[0]
        return facts[name].get("PARTICIPANT") or above, meaning

    media = [d.get("RELATIVE_MEDIA_URL") or d.get("MEDIA_URL") or "" for d in document.media_descriptors]
    linked = next((PurePosixPath(unquote(url).replace("\\", "/")).name for url in media if url), "")
    return _by_speaker(linked or stem, {name: of(name) for name in content}, content)


def _time_all(slots: dict[str, int | None]) -> None:
    """Gives the slots without a time, as of subdivided annotations, one between those around them."""
    names, last = list(slots), 0
    place = 0
    while place < len(names):
        slot_time = slots[names[place]]
        if slot_time is not None:
            last, place = slot_time, place + 1
            continue
        after = place
        while after < len(names) and slots[names[after]] is None:
            after += 1
        end = slots[names[after]] if after < len(names) else None
        step = ((last if end is None else end) - last) / (after - place + 1)
        for number, name in enumerate(names[place:after], start=1):
            slots[name] = round(last + number * step)
        place = after


def read_textgrid(raw: bytes, stem: str, names: Names) -> list[AnnotatedUtterance]:
    """Utterances of a Praat file, long or short: tiers called ``Ann text`` and ``Ann emotion``, or alike.

    Raises:
        UsageError: it is no TextGrid.
    """
    from praatio.utilities import textgrid_io

    text = text_of(raw)
    if not re.search(r'"TextGrid"', text[:2000]):
        raise UsageError("it is no TextGrid: the head of the file does not say so.")
    try:
        parsed = textgrid_io.parseTextgridStr(text, includeEmptyIntervals=False)
        content: dict[str, list[Stretch]] = {}
        for tier in parsed["tiers"]:
            if tier["class"] != "IntervalTier":
                continue
            stretches = content.setdefault(str(tier["name"]), [])
            for first, last, value in tier["entries"]:
                if math.inf > float(last) > float(first) > -math.inf and value.strip():
                    stretches.append(Stretch(float(first), float(last), value.strip()))
    except Exception as error:  # it checks little and raises whatever comes
        raise UsageError(f"it can't be read as a TextGrid ({type(error).__name__}: {error}).") from error
    return _by_speaker(stem, {name: names.split(name) for name in content}, content)


def _by_speaker(
    recording: str,
    roles: Mapping[str, tuple[str | None, str | None]],
    content: Mapping[str, Sequence[Stretch]],
) -> list[AnnotatedUtterance]:
    """Tiers put together by speaker; a tier without a meaning holds words."""
    utterances: list[AnnotatedUtterance] = []
    speakers = dict.fromkeys(speaker for speaker, _ in roles.values())
    names = [speaker for speaker in speakers if speaker is not None]

    def tiers(speaker: str | None, *meanings: str | None) -> list[Stretch]:
        return [
            s
            for name, role in roles.items()
            if role[0] == speaker and role[1] in meanings
            for s in content[name]
        ]

    shared = {meaning: tiers(None, meaning) for meaning in ("label", "sentiment")}
    for speaker in names:
        # A tier of labels for all belongs to whoever speaks.
        labels, words = tiers(speaker, "label"), tiers(speaker, "text", None)
        feelings = tiers(speaker, "sentiment") or (shared["sentiment"] if words else [])
        if labels or not shared["label"]:
            utterances += joined(recording, speaker, words, labels, feelings)
        else:
            utterances += [u for u in joined(recording, speaker, words, shared["label"], feelings) if u.text]
    if None in speakers and (tiers(None, "text") or not names):
        utterances += joined(recording, None, tiers(None, "text"), shared["label"], shared["sentiment"])
    return sorted(utterances, key=lambda u: (u.start or 0.0, u.end or 0.0))
