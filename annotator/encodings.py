"""Bytes of a text file to text, whoever wrote it.

A mark (BOM) is believed. Without one, UTF-8 is known by its strict form and UTF-16 and UTF-32 by their zero
bytes. What is left was written before Unicode, and the caller is told that it was guessed: of the encodings
of the file's language (of all, where nothing tells it) the one that gives the most letters of one alphabet,
with capitals where capitals stand. Among those of Chinese and Korean charset-normalizer chooses; of a short
subtitle file's few accents alone it takes one script for another (tests/test_encodings.py has such texts).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 16_384  # of lines that are not ASCII: enough to tell an encoding by
_ZEROS = 0.02  # share of zero bytes from which text is UTF-16: digits, spaces and line ends have one each

_WESTERN = ("cp1252", "mac_roman", "cp850")
_CENTRAL = ("cp1250", "iso8859_2", "cp852", "mac_latin2")
_CYRILLIC = ("cp1251", "koi8_r", "cp866", "mac_cyrillic", "iso8859_5")
_BALTIC = ("cp1257", "iso8859_13", "iso8859_4", "cp775")
_ARABIC = ("cp1256", "iso8859_6", "mac_arabic")
_RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
_ARABIC_LETTERS = "".join(map(chr, range(0x60C, 0x653)))
# By language: its letters beyond ASCII, and what its texts were written in, the likeliest first.
_ALPHABETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "en": ("éèêëïöçñüàâî£", _WESTERN),
    "de": ("äöüß", _WESTERN),
    "fr": ("àâæçéèêëîïôœùûüÿ", _WESTERN),
    "es": ("áéíñóúü¿¡ªº", _WESTERN),
    "it": ("àèéìíîòóùú", _WESTERN),
    "pt": ("áâãàçéêíóôõúüªº", _WESTERN),
    "ca": ("àçèéíïòóúü·", _WESTERN),
    "nl": ("éëïöüáèó", _WESTERN),
    "sv": ("åäöéà", _WESTERN),
    "da": ("æøåé", _WESTERN),
    "no": ("æøåéòôê", _WESTERN),
    "nb": ("æøåéòôê", _WESTERN),
    "fi": ("äöåšž", _WESTERN),
    "is": ("áðéíóúýþæö", _WESTERN),
    "pl": ("ąćęłńóśźż", _CENTRAL),
    "cs": ("áčďéěíňóřšťúůýž", _CENTRAL),
    "sk": ("áäčďéíĺľňóôŕšťúýž", _CENTRAL),
    "hu": ("áéíóöőúüű", _CENTRAL),
    "sl": ("čšž", _CENTRAL),
    "hr": ("čšžćđ", _CENTRAL),
    "bs": ("čšžćđ", _CENTRAL),
    "ro": ("ăâîșțşţ", _CENTRAL),
    "sq": ("ëç", ("cp1252", *_CENTRAL)),
    "tr": ("çğıöşüâîûi\u0307", ("cp1254", "cp857", "mac_turkish")),
    "lt": ("ąčęėįšųūž", _BALTIC),
    "lv": ("āčēģīķļņšūž", _BALTIC),
    "et": ("äõöüšž", _BALTIC),
    "vi": ("àâáãăèéêìíòóôõùúýđơư\u0300\u0301\u0303\u0309\u0323₫", ("cp1258",)),
    "he": ("אבגדהוזחטיךכלםמןנסעףפץצקרשת", ("cp1255", "iso8859_8", "cp862")),
    "ru": (_RUSSIAN, _CYRILLIC),
    "uk": ("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", ("cp1251", "koi8_u", "cp1125", "mac_cyrillic", "iso8859_5")),
    "be": ("абвгдеёжзійклмнопрстуўфхцчшыьэюя", _CYRILLIC),
    "bg": (_RUSSIAN, _CYRILLIC),
    "mk": ("абвгдѓежзѕијклљмнњопрстќуфхцчџш", _CYRILLIC),
    "sr": ("абвгдђежзијклљмнњопрстћуфхцчџшčšžćđ", ("cp1251", "cp1250", "iso8859_2", "iso8859_5")),
    "el": ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ", ("cp1253", "iso8859_7", "mac_greek", "cp737")),
    "ar": (_ARABIC_LETTERS, _ARABIC),
    "fa": (_ARABIC_LETTERS + "پچژگکی\u200c", _ARABIC),
    "ur": (_ARABIC_LETTERS + "پچژگکیےںہھٹڈڑ", _ARABIC),
    "th": ("".join(map(chr, range(0xE01, 0xE5C))), ("cp874",)),
}
_LATIN = [name for name, (letters, _) in _ALPHABETS.items() if any(c < "\u0250" for c in letters)]
_OF_PAIRS = {  # two bytes a character
    "zh": ("gb18030", "big5hkscs"),
    "ko": ("cp949", "johab"),
    "ja": ("cp932", "euc_jp"),
}
_THAI_MARKS = frozenset("ะัาำิีึืฺุู็่้๊๋์ํ๎ๅๆ")
_PUNCTUATION = frozenset("“”‘’„‚«»‹›–—…•·°§©®™´ \xa0\xad\u200e\u200f♪")


def decode(raw: bytes, language: str | None = None) -> tuple[str, bool]:
    """The text of a file, without its mark, and whether its encoding was guessed.

    Args:
        language: ISO 639-1, of the text, where something tells it.

    Raises:
        UnicodeDecodeError: a mark promises an encoding that the file breaks (``object`` and ``start`` of
            the error tell where).
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding), False
    wide = _wide(raw)
    if wide is not None:
        return raw.decode(wide, "replace"), False
    if re.search(rb"\x1b\$[@B]", raw):
        return raw.decode("iso2022_jp", "replace"), True
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        nearly = raw.decode("utf-8", "replace")
    # A file that was cut or joined has few broken characters among many.
    if 20 * nearly.count("\ufffd") < sum(c > "\x7f" for c in nearly):
        return nearly, True
    return raw.decode(_guessed(raw, language), "replace"), True


def _wide(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, by where the zero bytes of ASCII characters stand."""
    zeros = [raw[i::4].count(0) for i in range(4)]
    if sum(zeros) <= _ZEROS * len(raw):
        return None
    if len(raw) % 4 == 0 and 2 * sum(zeros) > len(raw):
        for encoding, empty in (("utf-32-le", 3), ("utf-32-be", 0)):
            if zeros[empty] == len(raw) // 4:
                return encoding
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if odd > 10 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 10 * odd else None


def _guessed(raw: bytes, language: str | None) -> str:
    """The likeliest encoding of text that is neither ASCII nor Unicode."""
    sample = b"\n".join(_strange_lines(raw))
    # A language that the text can't be in is not its own.
    if language in _ALPHABETS and (likeliest := _likeliest(sample, [language]))[0] > 0.6:
        return likeliest[1]
    if language in _OF_PAIRS and (fitting := _of_pairs(sample, _OF_PAIRS[language])):
        return fitting
    if _is_latin(sample):
        return _likeliest(sample, _LATIN)[1]
    for name in _OF_PAIRS["ja"]:
        if _share(sample, name, "\u3041", "\u30ff") > 0.25:
            return name
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", sample)]
    in_pairs = sum(n for n in runs if n % 2 == 0) >= 0.95 * sum(runs)
    if in_pairs and _share(sample, "cp949", "\uac00", "\ud7a3") > 0.8:
        return "cp949"
    score, best = _likeliest(sample, list(_ALPHABETS))
    if in_pairs and sum(runs) > 16 or score < 0.8:
        return _of_pairs(sample, _OF_PAIRS["zh"]) or best
    return best


def _likeliest(sample: bytes, languages: Sequence[str]) -> tuple[float, str]:
    """The score and the encoding of the best reading in the alphabet of one of these languages."""
    best, chosen = -1.0, _ALPHABETS[languages[0]][1][0]
    letters: dict[str, list[tuple[str, str]]] = {}
    for language in languages:
        alphabet, encodings = _ALPHABETS[language]
        for place, name in enumerate(encodings):
            if name not in letters:
                letters[name] = _strange_letters(sample, name)
            # Of equals the likelier encoding, then the language that comes first.
            score = _score(letters[name], frozenset(alphabet)) - 0.01 * place
            score -= 0.3 * any(letter == "\ufffd" for _, letter in letters[name][:-1])
            if score > best + 1e-9:
                best, chosen = score, name
    return best, chosen


def _strange_letters(sample: bytes, encoding: str) -> list[tuple[str, str]]:
    """Characters beyond ASCII, each with the one before; unreadable bytes as U+FFFD."""
    text = "\n" + sample.decode(encoding, "replace")
    return [(text[i - 1], c) for i, c in enumerate(text) if c > "\x7f"]


def _score(letters: Sequence[tuple[str, str]], alphabet: frozenset[str]) -> float:
    """The share of letters of an alphabet, but for capitals after small letters and accents after none."""
    good = 0.0
    for before, letter in letters:
        misplaced = (letter.isupper() and before.islower()) or (letter in _THAI_MARKS and before < "ก")
        good += 0.0 if misplaced else 1.0 if letter.lower() in alphabet else 0.9 * (letter in _PUNCTUATION)
    return good / max(1, len(letters))


def _of_pairs(sample: bytes, encodings: Sequence[str]) -> str | None:
    """The likeliest of encodings that write a character as two bytes; None if the text is in none."""
    fitting = [name for name in encodings if "\ufffd" not in sample.decode(name, "replace")[:-1]]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=fitting, preemptive_behaviour=False).best()
    return best.encoding if best is not None else fitting[0]


def _share(sample: bytes, encoding: str, first: str, last: str) -> float:
    """The share of characters beyond ASCII within a range; 0 where the bytes don't fit the encoding."""
    strange = [c for c in sample.decode(encoding, "replace")[:-1] if c > "\x7f"]
    return 0.0 if "\ufffd" in strange else sum(first <= c <= last for c in strange) / max(1, len(strange))


def _strange_lines(raw: bytes) -> list[bytes]:
    """Lines that are not ASCII, up to the size of a sample, cut between lines."""
    lines, size = [], 0
    for match in re.finditer(rb"[^\r\n]+", raw):
        if match[0].isascii():
            continue
        lines.append(match[0][:_SAMPLE_BYTES])
        size += len(lines[-1])
        if size >= _SAMPLE_BYTES:
            break
    return lines


def _is_latin(sample: bytes) -> bool:
    """Whether bytes above ASCII stand alone among ASCII letters, as accents do."""
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", sample)]
    letters = len(re.findall(rb"[A-Za-z]", sample))
    return sum(n for n in runs if n <= 2) >= 0.7 * sum(runs) and letters > sum(runs)
