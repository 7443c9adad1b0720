"""How to fine-tune, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pydantic.dataclasses

from annotator.choices import Measure, TextTraining
from train.settings import CHECKED, Count, Passes, Rate, Settings, Share, Weight


@pydantic.dataclasses.dataclass(frozen=True, config=CHECKED)
class FinetuneSettings(Settings):
    """How to fine-tune. The network is unfrozen in stages: new head, whole network, text encoder.

    ``anchor`` pulls every inherited weight towards its value in the start, w -= rate * pull * (w - w_0)
    (L2-SP, Li et al., ICML 2018, applied beside the gradient as AdamW does with weight decay), so that
    no weight gets further than about 1 / pull. pull = anchor * 1000 / labelled utterances: a prior
    counts for more where there is less to learn from.
    """

    epochs: Count = 20
    batch_size: Count = 16  # dialogues that go through the network at once
    accumulate: Count = 1  # batches of which one step is made
    lr: Rate = 3e-4  # of the inherited network
    head_lr: Rate = 2e-3  # of a new head
    text_lr: Rate = 2e-4  # of the text encoder's adapter
    head_epochs: Passes = 2  # only the head is trained, where it is new
    network_epochs: Passes = 1  # then the network with it; after these the text encoder too
    text: TextTraining = "auto"  # auto: the adapter from TEXT_FROM utterances on
    rank: Count = 16  # of a new adapter; one that the start has keeps its own
    anchor: Weight = 1.0
    weight_decay: Weight = 0.01  # of what is new
    balance: Weight = 0.0  # tau of logit adjustment (Menon et al., ICLR 2021): 0 none, 1 all classes alike
    average: Share = 0.99  # decay of the running average of the weights, which is what is kept; 0: none
    warmup: Share = 0.05  # share of the steps with a rising rate, before a cosine falls to 0
    clip: Rate = 1.0  # norm of the gradient
    patience: Count | None = 5  # epochs without a better one before it stops; None: never
    choose: Measure = "weighted_f1"  # on validation
    seed: int = 0
    device: str = "cpu"
    autocast: bool = False  # bfloat16 in the network, where the device has it; the text encoder has it always


LEAST_FOR_FOLDS = 5  # labelled dialogues in all, from which on cross-validation says something
TEXT_FROM = 1000  # labelled training utterances with text; fewer teach an encoder little


@dataclass(frozen=True)
class Step:
    """One epoch and its scores on validation. Epoch 0 is the start as it is."""

    number: int
    stage: str  # start, head, network or text: what was trained
    measure: float  # the score by which the best is chosen
    accuracy: float
    weighted_f1: float
    macro_f1: float
    validation_loss: float  # of the fine labels, decides between equals
    margin: float = 0.0  # standard error of the difference to the start, by what is labelled otherwise
    loss: float | None = None  # mean training loss
    seconds: float = 0.0


@dataclass(frozen=True)
class Override:
    """Something that the new model does otherwise than its start."""

    what: str
    before: str
    now: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.now} ({self.why})"


@dataclass(frozen=True)
class Plan:
    """What was inherited and what is otherwise, before any training."""

    labels: tuple[str, ...]
    inherited_rows: Mapping[str, str]  # label -> the start's label whose head row it takes
    coarse: Mapping[str, str | None]  # label -> sentiment, where the corpus gives none
    overrides: tuple[Override, ...] = ()
    renewed: tuple[str, ...] = ()  # modalities of another encoder than the start's
    kept: Mapping[str, Any] = field(default_factory=dict)  # what is inherited, for people
