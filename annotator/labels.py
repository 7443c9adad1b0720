"""What the names of labels say: which of the usual emotions is meant, whether it is pleasant, its colour.

Corpora name the same emotion in many ways. A name that is not here says nothing, and is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

# Each usual emotion and its names in the corpora of the field; the order is MELD's.
KINDS: dict[str, tuple[str, ...]] = {
    "neutral": ("neutral", "neu", "calm", "no emotion", "none"),
    "surprise": ("surprise", "surprised", "sur", "amazed", "astonished"),
    "fear": ("fear", "fearful", "fea", "scared", "afraid", "anxious", "anxiety", "worried"),
    "sadness": ("sadness", "sad", "unhappy", "grief", "sorrow"),
    "joy": ("joy", "joyful", "happy", "happiness", "hap", "glad", "exc", "excited", "excitement", "amused"),
    "disgust": ("disgust", "disgusted", "dis"),
    "anger": ("anger", "angry", "ang", "mad", "furious", "annoyed", "annoyance"),
}
# Sentiments of the usual emotions. Surprise is as often pleasant as not: it has none.
SENTIMENT_OF_KIND: dict[str, str | None] = {
    "neutral": "neutral",
    "surprise": None,
    "fear": "negative",
    "sadness": "negative",
    "joy": "positive",
    "disgust": "negative",
    "anger": "negative",
}
_OTHERS: dict[str, tuple[str, ...]] = {
    "positive": (
        "positive", "peaceful", "love", "pride", "proud", "gratitude", "grateful", "relief", "relieved",
        "amusement", "admiration", "hope", "hopeful", "content", "contentment", "pleased", "affection",
    ),
    "negative": (
        "negative", "frustration", "frustrated", "fru", "contempt", "boredom", "bored", "guilt", "shame",
        "embarrassment", "embarrassed", "disappointment", "disappointed", "hate", "hurt", "pain",
        "jealousy", "irritation", "irritated", "upset", "stressed", "distress",
    ),
}  # fmt: skip

# Numbers of the report's palette (page.css), so that two reports look alike.
COLOUR_OF_KIND = {"neutral": 0, "joy": 1, "anger": 2, "sadness": 3, "fear": 4, "disgust": 5, "surprise": 6}
_COLOUR_OF_NAME = {  # of those that stand beside a kind's own name in a corpus, or have no kind
    **dict.fromkeys(("calm", "peaceful"), 5),
    **dict.fromkeys(("excitement", "excited", "exc", "powerful"), 7),
    **dict.fromkeys(("frustration", "frustrated", "fru"), 8),
}

_KIND = {name: kind for kind, names in KINDS.items() for name in names}
_SENTIMENT: dict[str, str | None] = {name: SENTIMENT_OF_KIND[kind] for name, kind in _KIND.items()} | {
    name: sentiment for sentiment, names in _OTHERS.items() for name in names
}


def kind_of(label: str) -> str | None:
    """The usual emotion that a label means; None where the name doesn't say.

    >>> kind_of("Happy"), kind_of("powerful")
    ('joy', None)
    """
    return _KIND.get(_plain(label))


def says_sentiment(label: str) -> bool:
    """Whether the name of a label tells its sentiment, or that it has none of its own (surprise)."""
    return _plain(label) in _SENTIMENT


def sentiment_of(label: str) -> str | None:
    """``positive``, ``neutral`` or ``negative`` by a label's name; None for surprise and unknown names.

    >>> sentiment_of("sad"), sentiment_of("surprised")
    ('negative', None)
    """
    return _SENTIMENT.get(_plain(label))


def colour_of(label: str) -> int | None:
    """The number of the colour that a label's name asks for; None where the name says nothing.

    >>> colour_of("Angry"), colour_of("exc"), colour_of("weary")
    (2, 7, None)
    """
    name, kind = _plain(label), kind_of(label)
    return _COLOUR_OF_NAME.get(name, None if kind is None else COLOUR_OF_KIND[kind])


def same_label(label: str, labels: Sequence[str]) -> str | None:
    """The one of ``labels`` that means the same as ``label``: by its name, else by the usual emotion.

    >>> same_label("mad", ["joy", "anger"])
    'anger'
    """
    for other in labels:
        if _plain(other) == _plain(label):
            return other
    kind = kind_of(label)
    return next((other for other in labels if kind is not None and kind_of(other) == kind), None)


def _plain(label: str) -> str:
    return " ".join(label.lower().replace("_", " ").replace("-", " ").split())
