"""How to train, and what a training came to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic.dataclasses
from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from annotator.records import UsageError
from annotator.settings import read_toml
from model.config import sentence

CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=1)]
Passes = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@pydantic.dataclasses.dataclass(frozen=True, config=CHECKED)
class Settings:
    """Settings of a training. What they can't be is a UsageError of one sentence."""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise UsageError(f"{sentence(error, [f.name for f in dataclasses.fields(cls)])}.") from error


def changes_from(kind: type[Settings], config: Path | None, **given: Any) -> dict[str, Any]:
    """Fields of the settings ``kind`` from a TOML file, overridden by the options that are not None.

    Raises: UsageError for an unknown key or an impossible value.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.name != "device"]  # that is --device
    changes = read_toml(config, names) if config is not None else {}
    changes |= {name: value for name, value in given.items() if value is not None}
    if changes.get("patience") == 0:  # never; TOML has no null
        changes["patience"] = None
    kind(**changes)
    return changes


@pydantic.dataclasses.dataclass(frozen=True, config=CHECKED)
class TrainSettings(Settings):
    """How to train. The defaults are what served best; :meth:`paper` is arXiv 2501.15063's."""

    epochs: Count = 40
    batch_size: Count = 32  # dialogues
    lr: Rate = 1e-3
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: Weight = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: Share = 0.05  # share of the steps with a rising rate, in the cosine schedule
    clip: Rate = 1.0  # norm of the gradient
    patience: Count | None = 10  # epochs without a better validation score before it stops; None: never
    seed: int = 0
    device: str = "cpu"
    autocast: bool = False  # bfloat16, where the device has it

    @classmethod
    def paper(cls, **changes: Any) -> TrainSettings:
        """60 epochs of Adam at 0.005, batches of 32; the rest is silent there and chosen here."""
        fixed = {"epochs": 60, "lr": 0.005, "optimizer": "adam", "weight_decay": 1e-5, "schedule": "constant"}
        return cls(**{**fixed, "patience": None, **changes})


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
        scores = [e.oracle_weighted_f1 for e in self.history if e.oracle_weighted_f1 is not None]
        return max(scores, default=None)
