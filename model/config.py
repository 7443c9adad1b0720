"""What a network is built from. Stored in every checkpoint, so a model can always be built again.

arXiv 2501.15063 leaves much unsaid. Where a field's description begins with ``[S]`` the paper is silent and
the value of :meth:`ModelConfig.paper` is this project's choice; the reason stands beside it. Fields of the
groups "beyond the paper" are off in :meth:`ModelConfig.paper`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

MODALITIES = ("text", "audio", "face")
SENTIMENTS = ("positive", "neutral", "negative")  # the classes of the coarse head, in order

# Which queries which in the co-attention, in the order of equations 5-8.
PAIRS = (("text", "audio"), ("audio", "face"), ("face", "text"))
DIRECTIONS = (
    *(("text", "audio"), ("audio", "text"), ("audio", "face")),
    *(("face", "audio"), ("text", "face"), ("face", "text")),
)


# A configuration may come from a stranger: what is built of it stays within reason, whatever it says.
Width = Annotated[int, Field(ge=1, le=100_000)]
Window = Annotated[int, Field(ge=0, le=10_000)]  # utterances
Layers = Annotated[int, Field(ge=1, le=100)]
Dropped = Annotated[float, Field(ge=0, lt=1)]  # share
Weight = Annotated[float, Field(ge=0, le=1e30)]
Temperature = Annotated[float, Field(gt=0, le=1e30)]


def _as_tuple(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class ModelConfig:
    """Every size and choice of the network. Construct by :meth:`paper` or :meth:`default`.

    Raises:
        ValueError: a field has a value that can't work; the sentence names it.
    """

    modalities: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
    """A subset of ("text", "audio", "face"), in that order."""
    input_dims: dict[str, Width]
    """Width of the raw features of each modality. [S] any: the network learns a projection of each."""
    classes: Annotated[int, Field(ge=2, le=1000)]
    """Number of fine labels, C."""

    # Unimodal projections U^T, U^A, U^V.
    text_width: Width = 200
    audio_width: Width = 100
    face_width: Width = 100
    feature_dropout: Dropped = 0.0
    """[S] dropout on the projections; none in the paper's description."""
    feature_clip: Weight = 0.0
    """Beyond the paper: bound of standardised values, 0 for none; odd sounds give far outliers."""

    # Co-attention between pairs of modalities (equations 5-8).
    alignment: bool = True
    """False is the ablation F = [U^T; U^A; U^V]."""
    co_width: Width = 100
    """[S] width of each of the six cross-modal representations; that of the smaller projections."""
    co_layers: Layers = 1
    """[S] blocks per direction; corpora of some thousand utterances don't feed more."""
    co_heads: Annotated[int, Field(ge=1, le=1000)] = 4
    """[S] attention heads; the largest common power of two that leaves 25 dimensions a head."""
    co_ffn: Width = 400
    """[S] inner width of the feed-forward part; the transformer's usual four times the width."""
    co_dropout: Dropped = 0.1
    """[S] on attention weights and both branches; the transformer's usual value."""
    co_norm: Literal["pre", "post"] = "pre"
    """[S] where LayerNorm stands; post-norm is fragile at the paper's learning rate of 0.005."""
    co_positions: bool = True
    """[S] sinusoidal positions added to both inputs; attention would otherwise not know the order."""
    co_causal: bool = False
    """[S] whether an utterance sees the past only; no, since whole recordings are at hand."""
    attention_span: Annotated[int, Field(ge=1)] | None = None
    """Beyond the paper: co-attention and the classifier's attention reach this many utterances to each side.

    None is the whole dialogue, as in the paper: time and, in training, memory grow with the square of its
    length. With a span both grow linearly.
    """

    # Context (equations 9-10).
    recurrent_width: Width = 100
    """[S] units of the GRU in each direction: 100 give the paper's width of 200 for g."""
    recurrent_layers: Layers = 1
    """[S] layers of the GRU; the paper draws one."""
    context_dropout: Dropped = 0.0
    """[S] dropout on g; none in the paper's description."""

    # Graph (equations 11-15).
    speaker_encoding: bool = True
    """False is the ablation that classifies g without a graph."""
    window_past: Window = 10
    window_future: Window = 10
    relations: Literal["speaker_pair", "same_diff"] = "same_diff"
    """[S] ``speaker_pair``: speaker(i) x speaker(j) x past/future, 2 n_speakers^2 relations, where identity
    means something across dialogues. ``same_diff``: same/other speaker x past/future, 4 relations, where
    speakers are numbered in order of appearance, as in every diarized recording."""
    n_speakers: Annotated[int, Field(ge=1, le=1000)] = 2
    """Number of speaker identities under ``speaker_pair``; unused under ``same_diff``."""
    bases: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """[S] number of basis matrices that the relation weights are mixed from; None: one free matrix each,
    since 4 to 8 relations are few."""
    self_loops: Literal["root", "both"] = "root"
    """[S] ``root``: an utterance reaches itself only through W_0, so it isn't counted twice.
    ``both``: its self-loop is also an edge of its own speaker's past."""
    graph_width: Width = 100
    """[S] width of h1 and h2, as in DialogueGCN."""
    graph_drop: Literal["message", "dropout", "edge", "none"] = "message"
    """What is dropped in training: elements of the message matrix (DropMessage), elements of the senders'
    features, whole edges, or nothing."""
    graph_drop_rate: Dropped = 0.2
    """[S] delta; the middle of the range that the DropMessage paper searches."""
    drop_root: bool = False
    """[S] whether the root terms are dropped too; no, they are not messages."""
    c_ir: Literal["count", "one", "learned"] = "count"
    """[S] normaliser of relation r at receiver i: the number of its neighbours in r, 1, or a learned
    positive number for each relation. The count keeps long and short windows on one scale."""
    second_step: Literal["mean", "sum"] = "mean"
    """[S] how the second step joins neighbours; the mean does not grow with the window."""

    # Classifier (equations 16-21).
    classifier_attention: Literal["replace", "beside", "none"] = "replace"
    """The attended x~ replaces x (as in the paper), stands beside it, or is left out (beyond the paper)."""
    classifier_width: Width = 100
    """[S] width of the hidden layer l."""
    dropout: Dropped = 0.4
    """[S] dropout on l; the value that DialogueGCN and its successors use on these corpora."""
    coarse_head: Literal["shared", "separate"] = "shared"
    """[S] the coarse head is a second Linear on l, so that both tasks shape l, or has a hidden layer of
    its own."""

    # Loss (equations 22-24).
    loss: Literal["convex", "additive", "uncertainty", "dynamic"] = "convex"
    """[S] ``convex``: alpha L_C + (1 - alpha) L_F, the reading in which 0 and 1 are the single tasks.
    ``additive``: L_F + alpha L_C. Beyond the paper, without alpha: ``uncertainty`` (learned weights, Kendall
    et al. 2018) and ``dynamic`` (dynamic weight averaging, Liu et al. 2019)."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the coarse task: 0.7 on IEMOCAP and 0.5 on MELD in the paper."""
    label_smoothing: Dropped = 0.0

    # Beyond the paper: missing modalities.
    missing: bool = False
    """Rows without a modality get a learned token and are masked as keys. False: they count as the mean."""
    modality_dropout: Dropped = 0.0
    """In training, the chance to hide each modality of an utterance or dialogue; one is always kept."""

    # Beyond the paper: pairs no worse than their parts.
    gated: bool = False
    """Each cross-modal representation becomes P_m U_m + sigmoid(W [P_m U_m; E_mn] + gate_bias) * E_mn."""
    gate_bias: Annotated[float, Field(ge=-1e30, le=1e30)] = -2.0
    """Initial bias of the gates: nearly closed, so a second modality has to earn its place."""
    unimodal_heads: bool = False
    """A fine head on each projection, trained on the labels and on the whole network's output."""
    unimodal_weight: Weight = 0.3
    """Weight of those heads' cross-entropy."""
    distillation_weight: Weight = 0.3
    """Weight of their divergence from the whole network."""
    distillation_temperature: Temperature = 2.0

    # Beyond the paper: imbalance.
    logit_adjustment: Annotated[float, Field(ge=-1e30, le=1e30)] = 0.0
    """tau of Menon et al. 2021: tau log prior is added to the logits in the loss."""
    focal_gamma: Weight = 0.0
    """gamma of the focal loss (Lin et al. 2017)."""
    class_balance: Dropped = 0.0
    """beta of class-balanced weights (Cui et al. 2019), near 1; 0: all classes alike."""
    contrast_weight: Weight = 0.0
    """Weight of supervised contrast on l with a learned prototype for each class."""
    contrast_temperature: Temperature = 0.1
    shift_weight: Weight = 0.0
    """Weight of an auxiliary task: has the speaker's emotion changed since their previous utterance?"""

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        ordered = tuple(m for m in MODALITIES if m in self.modalities)
        if not self.modalities or self.modalities != ordered:
            raise ValueError(
                f"modalities must be some of {', '.join(MODALITIES)}, in this order; got {self.modalities}"
            )
        if set(self.input_dims) != set(self.modalities):
            raise ValueError(
                f"input_dims must name exactly the modalities {', '.join(self.modalities)}; "
                f"got {', '.join(self.input_dims) or 'none'}"
            )
        # One order, so that equal configs are stored alike.
        object.__setattr__(self, "input_dims", {m: self.input_dims[m] for m in ordered})
        if self.co_width % self.co_heads:
            raise ValueError(f"co_width {self.co_width} must be a multiple of co_heads {self.co_heads}")
        if self.modality_dropout and not self.missing:
            raise ValueError(
                "modality_dropout needs missing = true: without it the network can't tell a hidden modality"
            )
        return self

    @classmethod
    def paper(cls, input_dims: Mapping[str, int], classes: int, **changes: Any) -> ModelConfig:
        """The network as the paper describes it, the [S] choices filled in as each field says.

        Args:
            input_dims: raw width of each modality; its keys are the modalities.
            classes: number of fine labels.
            changes: fields to set otherwise, such as ``relations="speaker_pair"`` and ``alpha=0.7``
                for IEMOCAP.
        """
        modalities = tuple(m for m in MODALITIES if m in input_dims)
        shape = {"modalities": modalities, "input_dims": dict(input_dims), "classes": classes}
        return cls.from_json({**shape, **changes})

    @classmethod
    def default(cls, input_dims: Mapping[str, int], classes: int, **changes: Any) -> ModelConfig:
        """For recordings from anywhere: any modality may be missing. Arguments as in :meth:`paper`."""
        beyond: dict[str, Any] = {
            "missing": True,
            "modality_dropout": 0.2,
            "gated": True,
            "alpha": 0.3,
            "classifier_attention": "beside",
            "feature_clip": 8.0,
            "feature_dropout": 0.1,
        }
        return cls.paper(input_dims, classes, **{**beyond, **changes})

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of modalities that are aligned, in the paper's order."""
        if not self.alignment:
            return ()
        return tuple(p for p in PAIRS if set(p) <= set(self.modalities))

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """(query, key) of the cross-modal representations: both directions of each pair, six in all."""
        return tuple(d for d in DIRECTIONS if d in self.pairs or d[::-1] in self.pairs)

    @property
    def relation_count(self) -> int:
        """Number of relations R, self-loops apart."""
        return 4 if self.relations == "same_diff" else 2 * self.n_speakers**2

    def width(self, modality: str) -> int:
        """Width of the projection of ``modality``."""
        return {"text": self.text_width, "audio": self.audio_width, "face": self.face_width}[modality]

    @property
    def fused_width(self) -> int:
        """Width of F (equation 8): 1000 with three modalities and the paper's widths."""
        return sum(self.width(m) for m in self.modalities) + len(self.directions) * self.co_width

    def replace(self, **changes: Any) -> ModelConfig:
        """This config with some fields changed."""
        return type(self).from_json({**self.to_json(), **changes})

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        stored = (f.name for f in dataclasses.fields(self))
        values = {name: getattr(self, name) for name in stored}
        return {**values, "modalities": list(self.modalities), "input_dims": dict(self.input_dims)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_json`. Fields that are left out take their defaults.

        Raises:
            ValueError: an unknown key (the sentence names the near miss) or an impossible value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ValueError(sentence(error, [f.name for f in dataclasses.fields(cls)])) from error


def sentence(error: ValidationError, names: Sequence[str]) -> str:
    """The first of pydantic's complaints as one sentence, without a full stop.

    Args:
        names: of the fields that there are, for the near miss of an unknown one.
    """
    first = error.errors(include_url=False)[0]
    place, message, value = first["loc"], first["msg"].removeprefix("Value error, "), ascii(first["input"])
    where, name = ".".join(map(str, place)), str(place[-1]) if place else ""
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        near = difflib.get_close_matches(name, names, n=1)
        return f"unknown key {where!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where!r} is missing"
    if not place:
        return message
    return (
        f"{where}: {message[0].lower()}{message[1:]}; got {value if len(value) <= 60 else value[:60] + '...'}"
    )
