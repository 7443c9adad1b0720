"""How to train, and what a training came to."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from annotator.records import UsageError
from annotator.settings import impossible, read_toml


def changes_from(kind: type[Any], config: Path | None, **given: Any) -> dict[str, Any]:
    """Fields of the settings ``kind`` from a TOML file, overridden by the options that are not None.

    Raises: UsageError for an unknown key or an impossible value.
    """
    names = [field.name for field in fields(kind) if field.name != "device"]  # of this machine: --device
    changes = read_toml(config, names) if config is not None else {}
    changes |= {name: value for name, value in given.items() if value is not None}
    if changes.get("patience") == 0:  # never; TOML has no null
        changes["patience"] = None
    try:
        settings = TypeAdapter(kind).validate_python(changes)
    except ValidationError as error:
        raise UsageError(impossible(error)) from None
    return {name: getattr(settings, name) for name in changes}


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The defaults are what served best; :meth:`paper` is arXiv 2501.15063's."""

    epochs: int = 40
    batch_size: int = 32  # dialogues
    lr: float = 1e-3
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.05  # share of the steps with a rising rate, in the cosine schedule
    clip: float = 1.0  # norm of the gradient
    patience: int | None = 10  # epochs without a better validation score before it stops; None: never
    seed: int = 0
    device: str = "cpu"
    autocast: bool = False  # bfloat16, where the device has it

    @classmethod
    def paper(cls, **changes: Any) -> TrainSettings:
        """60 epochs of Adam at 0.005, batches of 32; the rest is silent there and chosen here."""
        fixed = {"epochs": 60, "lr": 0.005, "optimizer": "adam", "weight_decay": 1e-5, "schedule": "constant"}
        return cls(**{**fixed, "patience": None, **changes})

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "clip"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)!r}.")
        if self.optimizer not in ("adam", "adamw") or self.schedule not in ("constant", "cosine"):
            raise UsageError("The optimizer is adam or adamw, the schedule constant or cosine.")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience must be at least 1, or none at all; got {self.patience!r}.")


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    number: int  # from 1
    loss: float  # mean training loss
    fine_loss: float
    coarse_loss: float
    lr: float  # at its end
    accuracy: float  # on validation, like the next two
    weighted_f1: float
    macro_f1: float
    seconds: float
    oracle_weighted_f1: float | None = None  # on the oracle set, never used for any choice


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path
    best: Epoch
    history: tuple[Epoch, ...]

    @property
    def oracle_test_best(self) -> float | None:
        """The highest weighted F1 of any epoch on the oracle set: what many papers print, not a result."""
        known = [e.oracle_weighted_f1 for e in self.history if e.oracle_weighted_f1 is not None]
        return max(known, default=None)
