"""How to fine-tune, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from annotator.choices import Measure, TextTraining
from annotator.records import UsageError

MEASURES = ("weighted_f1", "macro_f1", "accuracy")


@dataclass(frozen=True)
class FinetuneSettings:
    """How to fine-tune. The network is unfrozen in stages: new head, whole network, text encoder.

    ``anchor`` pulls every inherited weight towards its value in the start, w -= rate * pull * (w - w_0)
    (L2-SP, Li et al., ICML 2018, applied beside the gradient as AdamW does with weight decay), so that
    no weight gets further than about 1 / pull. pull = anchor * 1000 / labelled utterances: a prior
    counts for more where there is less to learn from.
    """

    epochs: int = 20
    batch_size: int = 16  # dialogues that go through the network at once
    accumulate: int = 1  # batches of which one step is made
    lr: float = 3e-4  # of the inherited network
    head_lr: float = 2e-3  # of a new head
    text_lr: float = 2e-4  # of the text encoder's adapter
    head_epochs: int = 2  # only the head is trained, where it is new
    network_epochs: int = 1  # then the network with it; after these the text encoder too
    text: TextTraining = "auto"  # auto: the adapter from TEXT_FROM utterances on
    rank: int = 16  # of a new adapter; one that the start has keeps its own
    anchor: float = 1.0
    weight_decay: float = 0.01  # of what is new
    balance: float = 0.0  # tau of logit adjustment (Menon et al., ICLR 2021): 0 none, 1 all classes alike
    average: float = 0.99  # decay of the running average of the weights, which is what is kept; 0: none
    warmup: float = 0.05  # share of the steps with a rising rate, before a cosine falls to 0
    clip: float = 1.0  # norm of the gradient
    patience: int | None = 5  # epochs without a better one before it stops; None: never
    choose: Measure = "weighted_f1"  # on validation
    seed: int = 0
    device: str = "cpu"
    autocast: bool = False  # bfloat16 in the network, where the device has it; the text encoder has it always

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "lr", "head_lr", "text_lr", "rank", "clip"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)!r}.")
        for name in ("head_epochs", "network_epochs", "anchor", "weight_decay", "balance"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must not be negative; got {getattr(self, name)!r}.")
        if not 0 <= self.average < 1:
            raise UsageError(f"average must be at least 0 and less than 1; got {self.average!r}.")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience must be at least 1, or none at all; got {self.patience!r}.")
        if self.text not in ("auto", "frozen", "adapter"):
            raise UsageError(f"The text encoder is trained auto, frozen or adapter, not {self.text!r}.")
        if self.choose not in MEASURES:
            raise UsageError(f"The best epoch is chosen by {', '.join(MEASURES)}, not {self.choose!r}.")


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
