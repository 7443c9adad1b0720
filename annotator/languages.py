"""Languages as files call them (ISO 639, tags such as ``en-US``, names such as ``English``) to ISO 639-1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

# Countries that people take for languages, where they are the code of none.
_COUNTRIES = {"cn": "zh", "cz": "cs", "dk": "da", "gr": "el", "jp": "ja", "ua": "uk", "vn": "vi"}
# Names in English, and in the language itself where many files have it.
_NAMES = {
    name.replace("_", " "): code
    for code, names in (
        line.split(maxsplit=1)
        for line in """
af afrikaans
am amharic
ar arabic
az azerbaijani azeri
be belarusian
bg bulgarian
bn bengali bangla
bs bosnian
ca catalan català
cs czech čeština česky
cy welsh
da danish dansk
de german deutsch
el greek ελληνικά
en english
es spanish castilian español espanol castellano
et estonian eesti
eu basque euskara
fa persian farsi
fi finnish suomi
fr french français francais
ga irish
gl galician galego
gu gujarati
he hebrew
hi hindi
hr croatian hrvatski
hu hungarian magyar
hy armenian
id indonesian bahasa_indonesia
is icelandic
it italian italiano
ja japanese 日本語
ka georgian
kk kazakh
km khmer
kn kannada
ko korean 한국어
lo lao
lt lithuanian lietuvių
lv latvian latviešu
mk macedonian
ml malayalam
mn mongolian
mr marathi
ms malay
mt maltese
my burmese
nb bokmål norwegian_bokmål
ne nepali
nl dutch flemish nederlands
nn nynorsk norwegian_nynorsk
no norwegian norsk
pa punjabi
pl polish polski
ps pashto
pt portuguese brazilian português portugues
ro romanian moldavian română romana
ru russian русский
si sinhala sinhalese
sk slovak slovenčina
sl slovenian slovene slovenščina
sq albanian
sr serbian srpski
sv swedish svenska
sw swahili
ta tamil
te telugu
th thai
tl tagalog
tr turkish türkçe turkce
uk ukrainian українська
ur urdu
uz uzbek
vi vietnamese
yo yoruba
zh chinese mandarin cantonese 中文 简体 繁體 繁体 chs cht
zu zulu
""".strip().split("\n")
    )
    for name in names.split()
}


def iso_639_1(tag: str | None) -> str | None:
    """ISO 639-1 code of a tag such as ``en``, ``ger`` or ``pt_BR``; None if it has none (``und``, dialects).

    >>> iso_639_1("ger"), iso_639_1("pt-BR"), iso_639_1("und")
    ('de', 'pt', None)
    """
    if not tag:
        return None
    code = tag.strip().replace("_", "-").split("-")[0].lower()
    return _of_code(code) if re.fullmatch("[a-z]{2,3}", code, re.ASCII) else None


@cache
def _of_code(code: str) -> str | None:
    """Of two or three letters. Codes of two that were withdrawn count as none: "in" is a word, too."""
    from langcodes import standardize_tag, tag_is_valid  # needs a moment to load

    current = str(standardize_tag(code))
    if current == "fil":  # ISO 639-1 has no other code for Filipino than Tagalog's
        return "tl"
    if len(current) == 2 and tag_is_valid(current) and (len(code) == 3 or current == code):
        return current
    return _COUNTRIES.get(code)


def named_language(name: str) -> str | None:
    """ISO 639-1 of a code, a tag or a language's name; None for any other word.

    Words around a name are understood (``Brazilian Portuguese``, ``Chinese (Simplified)``), but two letters
    count only as a whole: ``no`` is Norwegian, ``Part no`` is not.

    >>> named_language("en_US"), named_language("GERMAN"), named_language("Chinese (Simplified)")
    ('en', 'de', 'zh')
    >>> named_language("final"), named_language("x")
    (None, None)
    """
    plain = name.strip().casefold()
    if re.fullmatch(r"[a-z]{2,3}(?:[-_][a-z0-9]{1,8}){0,3}", plain, re.ASCII):
        code = iso_639_1(plain)
        if code is not None:
            return code
    if plain in _NAMES:
        return _NAMES[plain]
    found = {_NAMES[word] for word in re.findall(r"\w+", plain) if word in _NAMES}
    return found.pop() if len(found) == 1 else None


CERTAIN = (
    0.9  # probability; of 964 dialogues in three languages none came out wrong above it, five lines or more
)
MOST_CHARACTERS = 5000  # more makes it no surer


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(texts: Iterable[str]) -> str | None:
    """ISO 639-1 of texts in one language; None where they leave it open, or are too short.

    A naive Bayes classifier on bytes (Lui & Baldwin, ACL 2012, "langid.py").
    """
    read = ""
    for text in texts:
        read += f"{text} "
        if len(read) > MOST_CHARACTERS:
            break
    if not any(map(str.isalpha, read)):
        return None
    language, probability = _identifier().classify(read[:MOST_CHARACTERS])
    return iso_639_1(language) if probability >= CERTAIN else None
