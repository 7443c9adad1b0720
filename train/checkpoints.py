"""The folder that training writes: a checkpoint, its encoders' weights, its card and evaluation."""

from __future__ import annotations

from pathlib import Path

from annotator.folders import check_replaceable

EVALUATION = "evaluation"
CARD = "CARD.md"


def check_place(out: Path) -> None:
    """Refuse to write over something that is no checkpoint.

    Raises:
        UsageError: ``out`` exists and is none, or holds more.
    """
    check_replaceable(out, "checkpoint", _is_part, "model.json")


def _is_part(name: str) -> bool:
    """Whether a name directly below a checkpoint is one that training or fine-tuning gives."""
    return name in ("model.json", CARD, "README.md", EVALUATION) or name.endswith(".safetensors")
