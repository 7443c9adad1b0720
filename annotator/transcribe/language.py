"""The language of a transcript that does not tell it, from its words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from annotator.languages import iso_639_1
from annotator.records import Word

CERTAIN = (
    0.9  # probability; of 964 dialogues in three languages none came out wrong above it, five lines or more
)
MOST_CHARACTERS = 5000  # more makes it no surer


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(words: Sequence[Word]) -> str | None:
    """ISO 639-1; None where the words leave it open, or are too few.

    A naive Bayes classifier on bytes (Lui & Baldwin, ACL 2012, "langid.py").
    """
    text = ""
    for word in words:
        text += f"{word.text} "
        if len(text) > MOST_CHARACTERS:
            break
    if not any(map(str.isalpha, text)):
        return None
    language, probability = _identifier().classify(text)
    return iso_639_1(language) if probability >= CERTAIN else None
