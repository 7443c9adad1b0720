"""A text encoder with a second one for what it can't read, such as other languages.

The second one learned to put a text where the first puts its translation, so the network behind them is one
(``train.adapter.languages``). It is loaded when the first such text comes: most recordings have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from annotator.encode.reading import UNREAD, can_read, is_among
from annotator.encode.text import TextEncoder, has_text
from annotator.records import Evidence, Features, Utterance


@dataclass(frozen=True)
class Strength:
    """A factor on the distance of the second encoder's vectors from the mean of the first's.

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
        known = language is not None and is_among(language, self.languages)
        return self.trained if known else self.untested


class TwoReaders:
    """Text features by the first encoder, and by the second where only that can read the text.

    Utterances say their language (``reading.with_languages``); without one the script decides.

    Args:
        second: makes the second encoder; None where this machine has none, and its texts are absent.
        second_fingerprint: of all that shapes the second's vectors.
    """

    modality = "text"

    def __init__(
        self,
        first: TextEncoder,
        second: Callable[[], TextEncoder] | None,
        second_fingerprint: str,
        strength: Strength,
    ) -> None:
        self.first, self.name, self.width = first, first.name, first.width
        self._make, self._strength = second, strength
        self.fingerprint = f"{first.fingerprint}+{second_fingerprint}"

    @cached_property
    def second(self) -> TextEncoder | None:
        """Raises: SetupError when it can't be loaded."""
        return self._make() if self._make is not None else None

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        foreign = np.array([not can_read(self.name, u.text or "", u.language) for u in utterances], np.bool_)
        features = self.first(evidence, _hidden(utterances, foreign))
        waits = foreign & np.array([has_text(u) for u in utterances], np.bool_)
        if not waits.any() or self.second is None:
            return features
        other = self.second(evidence, _hidden(utterances, ~foreign))
        projection = self.second.projection
        center = projection.center.cpu().numpy() if projection is not None else np.float32(0)
        strengths = np.array([self._strength.of(u.language) for u in utterances], np.float32)[:, None]
        moved = center + strengths * (other.values - center)
        return Features(
            np.where(other.present[:, None], moved, features.values), features.present | other.present
        )


def _hidden(utterances: Sequence[Utterance], hidden: NDArray[np.bool_]) -> list[Utterance]:
    """The utterances, with those of another reader marked as texts that can't be read."""
    return [
        replace(u, flags=(*u.flags, UNREAD)) if there else u
        for u, there in zip(utterances, hidden, strict=True)
    ]
