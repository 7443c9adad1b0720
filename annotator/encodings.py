"""Bytes of a text file from anywhere to text: by its mark, as UTF-8 or UTF-16, else by what reads best.

Old subtitles and tables are in the code page of whoever wrote them and say nothing about it. A detector
(charset-normalizer) then weighs the code pages that such files have; the language, where a file's name tells
it, leaves only those that it is written in.
"""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 32 << 10  # about what the detector weighs, of the file's first 2 MB
_UTF8_SHARE = 0.95  # of the bytes above ASCII: from here on it is UTF-8 with damage, not a code page
_LIKE_BEST = 0.02  # of messiness or coherence by which the detector's candidates count as equal
_TOO_MESSY = 0.2  # the detector's own threshold for text in another code page

# Code pages that text files are found in, the commonest first: of equal candidates, that one is taken.
_WESTERN = ("cp1252", "cp850", "mac_roman")
_CENTRAL = ("cp1250", "iso8859_2", "cp852")
_CYRILLIC = ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic")
_CHINESE = ("gb18030", "big5")
_ANY = (
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp866", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("cp874", "gb18030", "big5", "cp932", "euc_jp", "cp949", "iso8859_2"),
)
_BY_LANGUAGE = {
    **dict.fromkeys("en de fr es it pt nl sv da no nb nn fi is ca gl eu ga af sq id ms".split(), _WESTERN),
    **dict.fromkeys("pl cs sk hu sl hr bs ro".split(), _CENTRAL),
    **dict.fromkeys("ru be bg mk".split(), _CYRILLIC),
    "uk": ("cp1251", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic"),
    "sr": ("cp1251", "cp1250", "iso8859_5", "iso8859_2"),
    **dict.fromkeys("et lv lt".split(), ("cp1257", "iso8859_13", "cp775")),
    "el": ("cp1253", "iso8859_7", "cp737", "mac_greek"),
    "tr": ("cp1254", "iso8859_9", "cp857", "mac_turkish"),
    "az": ("cp1254", "cp1251"),
    "he": ("cp1255", "iso8859_8", "cp862"),
    **dict.fromkeys("ar fa ur".split(), ("cp1256", "iso8859_6", "cp720")),
    "vi": ("cp1258",),
    "th": ("cp874",),
    "zh": _CHINESE,
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949", "johab"),
}


def decode(raw: bytes, language: str | None = None) -> tuple[str, bool]:
    """The text of a file, without its mark, and whether its encoding was guessed.

    Args:
        language: ISO 639-1 of the text where it is known. It decides between code pages that all read well.

    Raises:
        UnicodeDecodeError: a mark promises an encoding that the file breaks (``object`` and ``start`` of
            the error tell where).
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding), False
    if b"\x1b$" in raw and raw.isascii():  # escapes that only Japanese mail and its programs write
        try:
            return raw.decode("iso2022_jp"), True
        except UnicodeDecodeError:
            pass
    if b"\0" in raw:
        wide = _without_mark(raw)
        if wide is not None:
            return wide, False
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        pass
    kept = raw.decode("utf-8", "ignore")
    above = sum(raw.translate(_ABOVE_ASCII))
    if len(kept.encode("utf-8").translate(None, _ASCII)) >= _UTF8_SHARE * above:
        return raw.decode("utf-8", "replace"), True
    return _by_code_page(raw, language), True


_ASCII = bytes(range(128))
_ABOVE_ASCII = bytes(int(value >= 128) for value in range(256))


def _without_mark(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark; None when the zero bytes don't lie as theirs do.

    Spaces, digits and line ends, which every transcript and table has, are half zeros in them, always on
    the same side.
    """
    zeros = [raw[place::4].count(0) for place in range(4)]
    units = len(raw) // 4
    # The upper half of each unit of UTF-32 is zero, or one in rare signs.
    if zeros[2] + zeros[3] > 1.9 * units > 0:
        encoding = "utf-32-le"
    elif zeros[0] + zeros[1] > 1.9 * units > 0:
        encoding = "utf-32-be"
    else:
        even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
        if max(even, odd) < 0.05 * len(raw) / 2 or min(even, odd) > max(even, odd) / 10:
            return None
        encoding = "utf-16-le" if odd > even else "utf-16-be"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _by_code_page(raw: bytes, language: str | None) -> str:
    """The text as the likeliest code page has it; signs that the page lacks become U+FFFD."""
    pages = _BY_LANGUAGE.get(language or "", ())
    for candidates in (pages, _ANY):
        for page in _ranked(raw, candidates):
            try:
                return raw.decode(page)
            except UnicodeDecodeError:
                continue
    return raw.decode(pages[0] if pages else _ANY[0], "replace")


def _ranked(raw: bytes, pages: tuple[str, ...]) -> list[str]:
    """Those of ``pages`` that the text reads well in, the best first."""
    if not pages:
        return []
    from charset_normalizer import CharsetMatch, from_bytes

    matches = from_bytes(
        _sample(raw),
        cp_isolation=list(pages),
        threshold=1.0,  # all are wanted with their figures
        preemptive_behaviour=False,  # a line "coding: utf-8" in a talk about code says nothing
        enable_fallback=False,
    )
    read_well = [m for m in matches if m.chaos <= _TOO_MESSY]
    if not read_well:
        return []
    best = read_well[0]

    def page(match: CharsetMatch) -> str:
        # Of pages that give the same text for the sample, the match names one and lists the others.
        return next((p for p in pages if p in match.could_be_from_charset), match.encoding)

    def rank(match: CharsetMatch) -> tuple[bool, int]:
        worse = match.chaos - best.chaos > _LIKE_BEST or best.coherence - match.coherence > _LIKE_BEST
        return worse, pages.index(page(match)) if page(match) in pages else len(pages)

    return [page(match) for match in sorted(read_well, key=rank)]


def _sample(raw: bytes) -> bytes:
    """Lines that are not ASCII, as times and numbers tell the detector nothing."""
    lines = [line for line in re.split(rb"[\r\n]+", raw[: _SAMPLE_BYTES * 64]) if not line.isascii()]
    step = max(1, sum(map(len, lines)) // _SAMPLE_BYTES)
    return b"\n".join(lines[::step])[: _SAMPLE_BYTES * 2]
