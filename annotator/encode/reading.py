"""Which texts an encoder has learned to read: by language, and by script.

An encoder makes a vector of any text. Of one in a language that it has never met the vector means nothing,
and a network that reads it gives an emotion all the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from annotator.languages import language_of
from annotator.records import Utterance

UNREAD, UNTESTED = "text_unread", "language_untested"
# Languages of the text that each has been pre-trained on, ISO 639-1. XLM-R's: Conneau et al. 2020, table 6.
LEARNED = {
    "minilm": frozenset({"en"}),
    "e5": frozenset(
        "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi "
        "hr hu hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa "
        "pl ps pt ro ru sa sd si sk sl so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh".split()
    ),
}
_NORWEGIAN = ("no", "nb", "nn")
_SCRIPTS = {"minilm": frozenset({"LATIN"})}  # of those that don't read all


def with_languages(utterances: Sequence[Utterance], language: str | None) -> list[Utterance]:
    """Utterances that say the language of their text: what is known, else what a dialogue's words tell."""
    if language is not None:
        return [replace(u, language=language) for u in utterances]
    texts: dict[int, list[str]] = {}
    for utterance in utterances:
        if utterance.text:
            texts.setdefault(utterance.dialogue_id, []).append(utterance.text)
    found = {dialogue: language_of(of_dialogue) for dialogue, of_dialogue in texts.items()}
    return [replace(u, language=found.get(u.dialogue_id)) for u in utterances]


def as_read(
    utterances: Sequence[Utterance], spec: Mapping[str, Any], trained: Sequence[str] | None
) -> list[Utterance]:
    """Utterances, those with text flagged that the encoder can't have learned to read, or is not tested on.

    ``text_unread`` is a text in a language or a script that neither the encoder nor its second was
    pre-trained on; it counts as absent. ``language_untested`` is one in a language that they were pre-trained
    on, and in which nobody has told them emotions. Where nobody knows the language, the script decides.

    Args:
        utterances: that say their language.
        spec: of a text encoder.
        trained: languages in which the checkpoint learned emotions, ISO 639-1; None where it does not say,
            and nothing is flagged.
    """
    if trained is None:
        return list(utterances)
    names = [str(spec["name"]), *([str(spec["second"]["name"])] if "second" in spec else [])]
    flagged = []
    for utterance in utterances:
        language = utterance.language
        if utterance.text is None or not utterance.text.strip():
            flagged.append(utterance)
        elif not any(can_read(name, utterance.text, language) for name in names):
            flagged.append(replace(utterance, flags=(*utterance.flags, UNREAD)))
        elif language is not None and not is_among(language, trained):
            flagged.append(replace(utterance, flags=(*utterance.flags, UNTESTED)))
        else:
            flagged.append(utterance)
    return flagged


def can_read(name: str, text: str, language: str | None) -> bool:
    """Whether an encoder can have learned to read a text; yes where nothing is known of the encoder.

    Args:
        name: of the encoder, as in ``ENCODERS``.
        language: of the text, ISO 639-1; None where nobody knows.
    """
    learned, scripts = LEARNED.get(name), _SCRIPTS.get(name)
    if language is not None and learned is not None and not is_among(language, learned):
        return False
    return scripts is None or _is_in(text, scripts)


def is_among(language: str, languages: Collection[str]) -> bool:
    """Whether a language is one of some; Norwegian by any of its codes."""
    return any(code in languages for code in (_NORWEGIAN if language in _NORWEGIAN else (language,)))


def _is_in(text: str, scripts: frozenset[str]) -> bool:
    """Whether at least half of the letters of a text are of some scripts; yes where it has none."""
    letters = [character for character in text if character.isalpha()]
    known = sum(unicodedata.name(letter, "").partition(" ")[0] in scripts for letter in letters)
    return 2 * known >= len(letters)
