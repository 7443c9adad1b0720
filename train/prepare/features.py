"""Features that others published as pickles, in the two layouts that the field shares.

A file is a tuple of dicts keyed by dialogue id:

    IEMOCAP  ids, speakers 'M'/'F', labels, text, audio, visual, sentences, train ids, test ids
    MELD     the same and one more; speakers one-hot
    IEMOCAP with RoBERTa  _, _, r1, r2, r3, r4, four more
    MELD with RoBERTa     _, _, _, r1, r2, r3, r4, _, train ids, test ids, valid ids

Where a RoBERTa file lies beside the first, the mean of its four vectors an utterance replaces the text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.labels import SENTIMENT_OF_KIND
from annotator.records import Features, UsageError
from train.prepare import iemocap, meld
from train.prepare.pickles import load_pickle
from train.prepare.source import Source

NAMES = ("IEMOCAP_features.pkl", "MELD_features_raw1.pkl")
ROBERTA = {"iemocap": "iemocap_features_roberta.pkl", "meld": "meld_features_roberta.pkl"}
PARTS = {"text": 3, "audio": 4, "face": 5}  # where the tuple holds a modality
VALIDATION_DIALOGUES = 12  # taken from training where the files name no validation set
ENCODER = "published"  # no encoder of ours makes these features: a run can't use them


def read(path: Path, *, seed: int = 0) -> Source:
    """Read ``IEMOCAP_features.pkl`` or ``MELD_features_raw1.pkl``, or the folder that holds one of them.

    Without valid ids (only MELD's RoBERTa file has them), 12 training dialogues chosen by ``seed`` are the
    validation set.

    Raises:
        UsageError: a file is missing, refused, or laid out otherwise.
    """
    file = _find(path)
    content = load_pickle(file)
    if not isinstance(content, tuple | list) or len(content) not in (9, 10):
        raise UsageError(
            f"{file}: expected 9 parts (IEMOCAP) or 10 (MELD). Give a file in a published layout."
        )
    kind = "iemocap" if len(content) == 9 else "meld"
    roberta_file = file.with_name(ROBERTA[kind])
    roberta = load_pickle(roberta_file) if roberta_file.is_file() else None
    if roberta is not None:
        _layout(roberta, 10 if kind == "iemocap" else 11, roberta_file)
    dialogues = _dialogues_by_split(content, roberta if kind == "meld" else None, seed)
    names = iemocap.LABELS if kind == "iemocap" else meld.LABELS
    table = pl.DataFrame(
        _rows(kind, content, dialogues, names, file), schema_overrides={"sentiment": pl.String}
    )
    order, labels = [dialogue for ids in dialogues.values() for dialogue in ids], content[2]
    features = {m: Features(*_stack(content[part], order, labels, file, m)) for m, part in PARTS.items()}
    encoders = {m: {"name": ENCODER, "file": file.name} for m in PARTS}
    if roberta is not None:
        first = 2 if kind == "iemocap" else 3
        layers = [_stack(roberta[first + i], order, labels, roberta_file, "text") for i in range(4)]
        mean = np.stack([values for values, _ in layers]).mean(axis=0).astype(np.float32)
        features["text"] = Features(mean, layers[0][1])
        encoders["text"] = {"name": ENCODER, "file": roberta_file.name}
    provenance = {"source": "features", "layout": kind, "files": [file.name], "seed": seed}
    return Source(table, names, provenance, ("F", "M") if kind == "iemocap" else None, features, encoders)


def _dialogues_by_split(content: Any, roberta: Any | None, seed: int) -> dict[str, list[Any]]:
    """Ids of the dialogues of each split: MELD's RoBERTa file names all three, the others two."""
    train, validation, test = map(list, (content[7], (), content[8]))
    if roberta is not None:
        train, test, validation = list(roberta[8]), list(roberta[9]), list(roberta[10])
    if not validation:
        pool = sorted(train, key=str)
        count = min(VALIDATION_DIALOGUES, max(1, len(pool) // 10))
        validation = random.Random(seed).sample(pool, count)
    rest = set(validation)
    return {"train": [d for d in train if d not in rest], "validation": validation, "test": test}


def _rows(
    kind: str, content: Any, dialogues: Mapping[str, list[Any]], names: tuple[str, ...], file: Path
) -> list[dict[str, Any]]:
    """The utterances of all dialogues, in the order of the splits."""
    speakers, labels, sentences = content[1], content[2], content[6]
    sentiment = _sentiments(kind, content, names)
    rows: list[dict[str, Any]] = []
    for split, dialogue in ((split, dialogue) for split, ids in dialogues.items() for dialogue in ids):
        # Test and training ids may share numbers in neither file, so an id stays what it is.
        emotions = [int(code) for code in _of(labels, dialogue, "labels", file)]
        speaker_codes = _of(speakers, dialogue, "speakers", file)
        text = _of(sentences, dialogue, "sentences", file)
        if not len(emotions) == len(speaker_codes) == len(text):
            raise UsageError(
                f"{file}: the dialogue {dialogue!r} has parts of different lengths. Fetch it again."
            )
        for place, code in enumerate(emotions):
            if not 0 <= code < len(names):
                raise UsageError(
                    f"{file}: the dialogue {dialogue!r}, utterance {place}, has the label {code}; "
                    f"the {kind} layout has 0 to {len(names) - 1}. Give the file in its published layout."
                )
            rows.append(
                {
                    "split": split,
                    "dialogue_id": str(dialogue),
                    "utterance_id": place,
                    "speaker": _speaker(speaker_codes[place]),
                    "text": str(text[place]),
                    "emotion": names[code],
                    "sentiment": sentiment(dialogue, place, code),
                }
            )
    return rows


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    files = [path / name for name in NAMES if (path / name).is_file()]
    if len(files) != 1:
        raise UsageError(
            f"{path} must hold one of {' and '.join(NAMES)}, or be such a file; it holds {len(files)}."
        )
    return files[0]


def _layout(content: Any, parts: int, file: Path) -> None:
    if not isinstance(content, tuple | list) or len(content) != parts:
        raise UsageError(
            f"{file}: expected {parts} parts. Give the file in its published layout, or take it away."
        )


def _of(part: Any, dialogue: Any, what: str, file: Path) -> Any:
    if not isinstance(part, Mapping) or dialogue not in part:
        raise UsageError(f"{file}: the {what} have no dialogue {dialogue!r}. Fetch the file again.")
    return part[dialogue]


def _speaker(code: Any) -> str:
    """'M' and 'F' as they are; a one-hot vector as the number of its one."""
    return code if isinstance(code, str) else f"SPEAKER_{int(np.argmax(np.asarray(code))):02d}"


def _stack(
    part: Any, order: Collection[Any], labels: Any, file: Path, modality: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors of all dialogues as one array (rows, width); absent where a vector is all zeros."""
    blocks: list[NDArray[np.float32]] = []
    for dialogue in order:
        vectors = _of(part, dialogue, f"{modality} features", file)
        try:
            block = np.asarray(vectors, np.float32).reshape(len(vectors), -1)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{file}: the {modality} features of the dialogue {dialogue!r} are no numbers "
                f"of one width: {error}. Fetch the file again."
            ) from error
        if len(block) != len(labels[dialogue]) or (blocks and block.shape[1] != blocks[0].shape[1]):
            raise UsageError(
                f"{file}: the {modality} features of the dialogue {dialogue!r} are {block.shape}, its labels "
                f"{len(labels[dialogue])}, the features before it of width "
                f"{(blocks or [block])[0].shape[1]}. Fetch the file again."
            )
        if not np.isfinite(block).all():
            row = int(np.argmin(np.isfinite(block).all(axis=1)))
            raise UsageError(
                f"{file}: the {modality} features of the dialogue {dialogue!r}, utterance {row}, hold NaN or "
                "infinity. Fetch the file again, or repair them."
            )
        blocks.append(block)
    values = np.concatenate(blocks)
    return values, (values != 0).any(axis=1)


def _sentiments(kind: str, content: Any, names: tuple[str, ...]) -> Callable[[Any, int, int], str | None]:
    """Sentiment of (dialogue, place, label). IEMOCAP's follows from the emotion.

    MELD's is the tenth part where that holds whole numbers 0 to 2; what each means is read off the
    utterances of neutral, joy and anger, of which it must be the most frequent one each. Otherwise
    only the emotions whose sentiment is plain have one (surprise has none).
    """
    if kind == "iemocap":
        return lambda dialogue, place, code: iemocap.SENTIMENT[names[code]]
    codes, labels = content[9], content[2]
    meaning: dict[int, str] = {}
    if isinstance(codes, Mapping) and all(d in codes and len(codes[d]) == len(labels[d]) for d in labels):
        for emotion, sentiment in (("neutral", "neutral"), ("joy", "positive"), ("anger", "negative")):
            of = [
                int(s)
                for d in labels
                for s, e in zip(codes[d], labels[d], strict=True)
                if names[int(e)] == emotion
            ]
            if of:
                meaning[max(set(of), key=of.count)] = sentiment
    if sorted(meaning) == [0, 1, 2]:
        return lambda dialogue, place, code: meaning.get(int(codes[dialogue][place]))
    return lambda dialogue, place, code: SENTIMENT_OF_KIND.get(names[code])
