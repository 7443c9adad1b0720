"""Conversations of many recordings -> batches -> network -> calibrated probabilities.

The network runs in float64. It is small, and what it gives for a conversation then doesn't
depend, after rounding to float32, on which others share the batch: an interrupted, a sharded
and a clean run write the same numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotator.records import MODALITIES, Conversation, Features, Prediction, SetupError, UsageError

log = logging.getLogger("annotator")


class Predictor:
    """A checkpoint ready to label conversations.

    Args:
        folder: the checkpoint.
        device: ``cpu``, ``cuda``, ``cuda:N``; ``mps`` runs the network on the CPU (it has no float64).
        modalities: those that may be used; others count as absent.

    Raises: SetupError when the checkpoint can't be read.
    """

    def __init__(self, folder: Path, device: str = "cpu", modalities: Sequence[str] = MODALITIES) -> None:
        import torch

        from model import CheckpointError, load_checkpoint  # noqa: TID251 - the stage that runs the network

        try:
            self._checkpoint = load_checkpoint(folder)
        except CheckpointError as error:
            raise SetupError(str(error)) from error
        self._device = torch.device("cpu" if device == "mps" else device)
        self._network = self._checkpoint.network.to(self._device, torch.float64).eval()
        self._modalities = [m for m in modalities if m in self._checkpoint.config.modalities]
        has = ", ".join(self._checkpoint.config.modalities)
        if not self._modalities:
            raise UsageError(f"The checkpoint {self.name} knows {has}, not {', '.join(modalities)}.")
        clash = {"positive", "negative", "neutral_sentiment"} & set(self.labels)
        if clash:
            raise UsageError(
                f"The checkpoint {self.name} has the label {clash.pop()!r}, whose column would be the "
                "sentiment's: name it otherwise and train again."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return self._checkpoint.labels

    @property
    def encoders(self) -> dict[str, dict[str, Any]]:
        """What made the features that the network was trained on, by modality."""
        return self._checkpoint.encoders

    @property
    def name(self) -> str:
        """Name and version, as in the table's column ``model``."""
        return f"{self._checkpoint.name} {self._checkpoint.version}"

    def predict(self, conversations: Sequence[Conversation], batch_size: int = 32) -> list[Prediction]:
        """Label conversations, ``batch_size`` at a time; halves the batch when a GPU runs out of memory.

        An utterance with no modality present gets the training prior.
        """
        import torch

        results: list[Prediction] = []
        while len(results) < len(conversations):
            batch = conversations[len(results) : len(results) + batch_size]
            try:
                results += self._batch(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise SetupError(
                        f"A conversation of {len(batch[0])} utterances doesn't fit the GPU: use --device cpu."
                    ) from error
                batch_size = len(batch) // 2
                torch.cuda.empty_cache()
                log.warning("The GPU is out of memory: going on with %d conversations a batch.", batch_size)
        return results

    def _batch(self, conversations: Sequence[Conversation]) -> list[Prediction]:
        import torch

        from model import apply_calibration, collate  # noqa: TID251 - the stage that runs the network

        config = self._checkpoint.config
        allowed = [restricted(c, self._modalities) for c in conversations]
        batch = collate(allowed, config.modalities)
        batch.features = {m: f.double() for m, f in batch.features.items()}
        with torch.inference_mode():
            output = self._network(batch.to(self._device))
        present = batch.present[batch.mask].cpu().numpy()  # (V, M) in the checkpoint's order
        emotion, sentiment = apply_calibration(
            self._checkpoint.calibration,
            output.fine.cpu().numpy(),
            output.coarse.cpu().numpy(),
            present,
            config.modalities,
        )
        # Context alone is no evidence: without any modality of its own, an utterance gets the prior.
        blank = ~present.any(1)
        emotion[blank] = self._checkpoint.prior["fine"]
        sentiment[blank] = self._checkpoint.prior["coarse"]
        used = np.zeros((len(present), len(MODALITIES)), np.bool_)
        for column, modality in enumerate(config.modalities):
            used[:, MODALITIES.index(modality)] = present[:, column]
        ends = np.cumsum([len(c) for c in conversations])[:-1]
        return [
            Prediction(e.astype(np.float32), s.astype(np.float32), u)
            for e, s, u in zip(
                np.split(emotion, ends), np.split(sentiment, ends), np.split(used, ends), strict=True
            )
        ]


def restricted(conversation: Conversation, modalities: Sequence[str]) -> Conversation:
    """The conversation with every other modality marked absent."""
    return Conversation(
        conversation.speakers,
        {
            m: f if m in modalities else Features(f.values, np.zeros_like(f.present))
            for m, f in conversation.features.items()
        },
    )
