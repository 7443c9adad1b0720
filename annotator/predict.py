"""Conversations of many recordings -> batches -> network -> calibrated probabilities.

The network runs in float64. It is small, and what it gives for a conversation then doesn't
depend, after rounding to float32, on which others share the batch: an interrupted, a sharded
and a clean run write the same numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from annotator.languages import iso_639_1
from annotator.records import (
    MODALITIES,
    RESERVED_LABELS,
    Conversation,
    Features,
    Prediction,
    RecordingError,
    SetupError,
    UsageError,
)
from annotator.threads import one_thread

if TYPE_CHECKING:
    from model import Network

log = logging.getLogger("annotator")

# Numbers that the network holds at its peak, for each that goes in and each of the fused vector. Measured
# with the bundle and with both presets at 1,000 to 16,000 utterances: 2.6 to 3.8.
PEAK = 4
DEFAULT_MEMORY_BYTES = 2048 << 20


class Predictor:
    """A checkpoint that labels conversations. What it says is read at once; its network when it is needed.

    Args:
        folder: the checkpoint.
        device: ``cpu``, ``cuda``, ``cuda:N``; ``mps`` runs the network on the CPU (it has no float64).
        modalities: those that may be used; others count as absent.
        memory_bytes: what the network may use at a time, about. Batches keep within it.

    Raises: SetupError when the checkpoint can't be read.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        modalities: Sequence[str] = MODALITIES,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        from model import CheckpointError, describe_checkpoint

        try:
            self._about = describe_checkpoint(folder)
        except CheckpointError as error:
            raise SetupError(str(error)) from error
        self._folder, self._device = folder, "cpu" if device == "mps" else device
        config = self._about.config
        self._modalities = [m for m in modalities if m in config.modalities]
        numbers = sum(config.input_dims.values()) + config.fused_width
        # Utterances of a batch, with padding, that the memory is enough for.
        self.most_utterances = max(1, memory_bytes // (8 * PEAK * numbers))
        self._text_languages = _languages(self._about.meta.get("text_languages"), self.name)
        has = ", ".join(config.modalities)
        if not self._modalities:
            raise UsageError(f"The checkpoint {self.name} knows {has}, not {', '.join(modalities)}.")
        clash = set(RESERVED_LABELS) & set(self.labels)
        if clash:
            raise UsageError(
                f"The checkpoint {self.name} has the label {clash.pop()!r}, whose column would be the "
                "sentiment's: name it otherwise and train again."
            )

    def load(self) -> None:
        """Load the network now, in place of when it is first needed.

        Raises: SetupError when its weights can't be read, or are others than when this was made.
        """
        _ = self._network

    @cached_property
    def _network(self) -> Network:
        import torch

        from model import CheckpointError, load_checkpoint

        try:
            checkpoint = load_checkpoint(self._folder)
        except CheckpointError as error:
            raise SetupError(str(error)) from error
        if checkpoint.fingerprint != self._about.fingerprint:
            raise SetupError(f"The checkpoint {self._folder} was changed while it was in use: run again.")
        return checkpoint.network.to(self._device, torch.float64).eval()

    @property
    def labels(self) -> tuple[str, ...]:
        return self._about.labels

    @property
    def encoders(self) -> dict[str, dict[str, Any]]:
        """What made the features that the network was trained on, by modality."""
        return self._about.encoders

    @property
    def text_languages(self) -> tuple[str, ...] | None:
        """Those in which it learned emotions from text, ISO 639-1; None where it does not say."""
        return self._text_languages

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it has and may use."""
        return tuple(self._modalities)

    @property
    def widths(self) -> dict[str, int]:
        """Length of the vectors that it takes, by modality."""
        return dict(self._about.config.input_dims)

    @property
    def name(self) -> str:
        """Name and version, as in the table's column ``model``."""
        return f"{self._about.name} {self._about.version}"

    def predict(
        self, conversations: Sequence[Conversation], batch_size: int = 32
    ) -> list[Prediction | RecordingError]:
        """Label conversations, ``batch_size`` at a time at most; what they get doesn't depend on the batches.

        An utterance with no modality present gets the training prior. A conversation that the memory is not
        enough for, alone in its batch, gets a RecordingError in place of its prediction.
        """
        import torch

        self.load()
        results: list[Prediction | RecordingError] = []
        while len(results) < len(conversations):
            batch = self._next_batch(conversations[len(results) : len(results) + batch_size])
            try:
                results += self._batch(batch) if batch else [self._too_large(conversations[len(results)])]
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                # The CPU's allocator has no error of its own.
                if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
                    raise
                if self._device.startswith("cuda"):
                    torch.cuda.empty_cache()
                if len(batch) == 1:
                    results.append(self._no_memory(batch[0]))
                    continue
                batch_size = len(batch) // 2
                log.warning("There is too little memory: going on with %d conversations a batch.", batch_size)
        return results

    def _next_batch(self, conversations: Sequence[Conversation]) -> Sequence[Conversation]:
        """The first of them that fit together, padded to the longest; none when the first is too large."""
        longest = 0
        for count, conversation in enumerate(conversations, start=1):
            longest = max(longest, len(conversation))
            if count * longest > self.most_utterances:
                return conversations[: count - 1]
        return conversations

    def _too_large(self, conversation: Conversation) -> RecordingError:
        return RecordingError(
            "predict",
            "too_large",
            f"It has a conversation of {len(conversation)} utterances, and the network may use memory for "
            f"{self.most_utterances}. Raise network-memory in a settings file, or cut the recording.",
        )

    def _no_numbers(self) -> RecordingError:
        return RecordingError(
            "predict",
            "not_finite",
            f"What the checkpoint {self.name} makes of it are no numbers: use another checkpoint, or tell "
            "where this one came from.",
        )

    def _no_memory(self, conversation: Conversation) -> RecordingError:
        remedy = "free some of it or cut the recording" if self._device == "cpu" else "use --device cpu"
        return RecordingError(
            "predict",
            "out_of_memory",
            f"There is too little memory for a conversation of {len(conversation)} utterances: {remedy}.",
        )

    def _batch(self, conversations: Sequence[Conversation]) -> list[Prediction | RecordingError]:
        from model import plausible_sets

        config = self._about.config
        modalities = config.modalities
        emotion, sentiment, present = self._told(conversations, self._modalities)
        # Context alone is no evidence: without any modality of its own, an utterance gets the prior.
        blank = ~present.any(1)
        emotion[blank] = self._about.prior["fine"]
        sentiment[blank] = self._about.prior["coarse"]
        used = np.zeros((len(present), len(MODALITIES)), np.bool_)
        alone = np.full((len(present), len(MODALITIES), len(self.labels)), np.nan, np.float32)
        numbers: NDArray[np.bool_] = np.isfinite(np.concatenate([emotion, sentiment], 1)).all(1)
        for column, modality in enumerate(modalities):
            there, number = present[:, column], MODALITIES.index(modality)
            used[:, number] = there
            if not there.any() or not (config.missing or len(modalities) == 1):
                continue  # the network has never been without the others
            if (present.any(0) == (np.arange(len(modalities)) == column)).all():
                alone[there, number] = emotion[there]  # there is nothing beside it in the whole batch
            else:
                alone[there, number] = self._told(conversations, [modality])[0][there]
            numbers[there] &= np.isfinite(alone[there, number]).all(1)
        plausible = plausible_sets(self._about.calibration, emotion, present, modalities)
        ends = np.cumsum([len(c) for c in conversations])[:-1]
        parts = (np.split(whole, ends) for whole in (emotion, sentiment, used, alone, plausible))
        return [
            Prediction(*part) if sound.all() else self._no_numbers()
            for sound, *part in zip(np.split(numbers, ends), *parts, strict=True)
        ]

    def _told(
        self, conversations: Sequence[Conversation], modalities: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Calibrated probabilities of both heads by some modalities, and which are present: (V, M)."""
        import torch

        from model import apply_calibration, collate

        config = self._about.config
        batch = collate([restricted(c, modalities) for c in conversations], config.modalities)
        batch.features = {m: f.double() for m, f in batch.features.items()}
        with torch.inference_mode(), one_thread(torch.device(self._device)):
            output = self._network(batch.to(self._device))
        present: NDArray[np.bool_] = batch.present[batch.mask].cpu().numpy()  # in the checkpoint's order
        fine, coarse = output.fine.cpu().numpy(), output.coarse.cpu().numpy()
        emotion, sentiment = apply_calibration(
            self._about.calibration, fine, coarse, present, config.modalities
        )
        return emotion, sentiment, present


def restricted(conversation: Conversation, modalities: Sequence[str]) -> Conversation:
    """The conversation with every other modality marked absent."""
    return Conversation(
        conversation.speakers,
        {
            m: f if m in modalities else Features(f.values, np.zeros_like(f.present))
            for m, f in conversation.features.items()
        },
    )


def _languages(said: object, checkpoint: str) -> tuple[str, ...] | None:
    """Raises: SetupError where a checkpoint says something else than codes."""
    if said is None:
        return None
    if not isinstance(said, list) or not all(isinstance(c, str) and iso_639_1(c) == c for c in said):
        raise SetupError(
            f"The checkpoint {checkpoint} names languages of its text that are no codes of ISO 639-1: "
            "mend text_languages in its model.json, or train again."
        )
    return tuple(said)


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
