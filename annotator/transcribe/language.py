"""The codes of languages (annotator/languages.py), by the name that recognition has for them."""

from __future__ import annotations

from annotator.languages import iso_639_1 as language_code

__all__ = ["language_code"]
