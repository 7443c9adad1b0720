"""A text encoder with a second one for what it can't read, such as other languages.

The second one learned to put a text where the first puts its translation, so the network behind them is one
(``train.adapter.languages``). It is loaded when the first such text comes: most recordings have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from annotator.encode.reading import UNREAD, can_read  # noqa: TID251 - its own package
from annotator.encode.text import TextEncoder, has_text  # noqa: TID251 - its own package
from annotator.languages import language_of
from annotator.records import Evidence, Features, Utterance


@dataclass(frozen=True)
class Strength:
    """How far the second encoder's vectors stand from the first's mean, against what it says.

    Below 1 the network becomes less sure, as it is right less often.

    Args:
        languages: that the second one was trained on, ISO 639-1.
        trained: factor in these.
        untested: factor in all others.
    """

    languages: tuple[str, ...]
    trained: float = 1.0
    untested: float = 1.0

    def of(self, language: str | None) -> float:
        return self.trained if language in self.languages else self.untested


class TwoReaders:
    """Text features by the first encoder, and by the second where only that can read the text.

    Where nobody names the language, the words of a dialogue tell it, or else the script.

    Args:
        second: makes the second encoder.
        second_name: its name, as in ENCODERS.
        adapter: its adapter's file.
    """

    modality = "text"

    def __init__(
        self,
        first: TextEncoder,
        second: Callable[[], TextEncoder],
        second_name: str,
        adapter: Path | None,
        strength: Strength,
    ) -> None:
        self.first, self.name, self.width = first, first.name, first.width
        self._make, self._second_name, self._adapter, self._strength = second, second_name, adapter, strength

    @cached_property
    def second(self) -> TextEncoder:
        """Raises: SetupError when it can't be loaded."""
        return self._make()

    @cached_property
    def fingerprint(self) -> str:
        """Of both, without loading the second: its wheel is known by name, its adapter by content."""
        digest = hashlib.sha256(f"{self.first.fingerprint} {self._second_name} {self._strength}".encode())
        if self._adapter is not None:
            digest.update(self._adapter.read_bytes())
        return digest.hexdigest()[:16]

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        languages = _languages(evidence.language, utterances)
        foreign = np.array(
            [not can_read(self.name, u.text or "", c) for u, c in zip(utterances, languages, strict=True)],
            np.bool_,
        )
        features = self.first(evidence, _hidden(utterances, foreign))
        if not (foreign & np.array([has_text(u) for u in utterances], np.bool_)).any():
            return features
        other = self.second(evidence, _hidden(utterances, ~foreign))
        projection = self.second.projection
        center = projection.center.cpu().numpy() if projection is not None else np.float32(0)
        strengths = np.array([self._strength.of(c) for c in languages], np.float32)[:, None]
        moved = center + strengths * (other.values - center)
        return Features(
            np.where(other.present[:, None], moved, features.values), features.present | other.present
        )


def _languages(language: str | None, utterances: Sequence[Utterance]) -> list[str | None]:
    """Of each utterance: the one that is known, else what the words of its dialogue tell."""
    if language is not None:
        return [language] * len(utterances)
    texts: dict[int, list[str]] = {}
    for utterance in utterances:
        if has_text(utterance):
            texts.setdefault(utterance.dialogue_id, []).append(str(utterance.text))
    found = {dialogue: language_of(of_dialogue) for dialogue, of_dialogue in texts.items()}
    return [found.get(utterance.dialogue_id) for utterance in utterances]


def _hidden(
    utterances: Sequence[Utterance], hidden: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> list[Utterance]:
    """The utterances, with those of another reader marked as texts that can't be read."""
    return [
        replace(u, flags=(*u.flags, UNREAD)) if there else u
        for u, there in zip(utterances, hidden, strict=True)
    ]
