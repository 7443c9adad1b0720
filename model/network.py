"""The whole network: features -> alignment -> BiGRU -> graph -> attention -> two heads.

    F (B, N, 1000)  ->  g (B, N, 200)  ->  h2 (V, 100)  ->  x = [g; h2]
    beta_i = softmax_j(x_i^T W_b x_j) over the dialogue;  x~ = sum beta x
    l = ReLU(W_l x~ + b), dropout;  fine = Linear(l), coarse = Linear(l)

Runs on the CPU (deterministic) and on CUDA, in float32, float64 and under bfloat16 autocast.

Letters of shapes: B dialogues of a batch, N utterances of the longest (shorter ones are padded), V utterances
in all, n utterances of one dialogue, M modalities, C labels, d the width of a vector. Equations are those of
arXiv 2501.15063.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.alignment import Alignment, attend
from model.config import SENTIMENTS, ModelConfig
from model.dropout import drop
from model.gcn import SpeakerEncoder
from model.graph import build_graph, previous_by_speaker


class ModalityFeatures(Protocol):
    """One modality's vectors of a conversation."""

    @property
    def values(self) -> NDArray[np.float32]: ...  # (n, d)
    @property
    def present(self) -> NDArray[np.bool_]: ...  # (n,)


class ConversationLike(Protocol):
    """What :func:`collate` needs of a conversation."""

    @property
    def speakers(self) -> NDArray[np.int64]: ...  # (n,)
    @property
    def features(self) -> Mapping[str, Any]: ...  # modality -> ModalityFeatures


@dataclass
class Batch:
    """Dialogues side by side, padded at the end of each to the longest."""

    features: dict[str, Tensor]  # modality -> (B, N, d) float32; zero where not present
    present: Tensor  # (B, N, M) bool, in the order of the modalities
    mask: Tensor  # (B, N) bool: True for real utterances, which come first in every row
    speakers: Tensor  # (B, N) long

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            features={m: x.to(device) for m, x in self.features.items()},
            present=self.present.to(device),
            mask=self.mask.to(device),
            speakers=self.speakers.to(device),
        )


@dataclass
class Output:
    """Rows are the batch's real utterances, dialogue by dialogue: the True entries of its mask, in order."""

    fine: Tensor  # (V, C) logits
    coarse: Tensor  # (V, 3) logits, in the order of SENTIMENTS
    present: Tensor  # (V, M) bool: the modalities that were used, after modality dropout
    hidden: Tensor  # (V, classifier_width): l, before dropout
    unimodal: dict[str, Tensor] | None = None  # modality -> (V, C) logits
    log_variances: Tensor | None = None  # (2,) of the fine and the coarse task
    prototypes: Tensor | None = None  # (C, classifier_width)
    shift: Tensor | None = None  # (V,) logits: the speaker's emotion changed
    previous: Tensor | None = None  # (V,) long: row of the speaker's previous utterance, or -1
    dialogue: Tensor | None = None  # (V,) long: number of the row's dialogue; None: all are of one


def collate(conversations: Sequence[ConversationLike], modalities: Sequence[str]) -> Batch:
    """Conversations -> a batch. A modality that a conversation lacks counts as absent throughout.

    Where no conversation has a modality, its features have width 0.

    Raises:
        ValueError: no conversation, an empty one, arrays of different lengths or widths, or a value that is
            present but not finite; the sentence names the conversation by its position, from 0.
    """
    if not conversations:
        raise ValueError("a batch needs at least one conversation")
    lengths = [len(c.speakers) for c in conversations]
    shape = (len(lengths), max(lengths))
    mask = np.zeros(shape, bool)
    speakers = np.zeros(shape, np.int64)
    present = np.zeros((*shape, len(modalities)), bool)
    widths: dict[str, int] = {}
    for modality in modalities:
        in_batch = {c.features[modality].values.shape[1] for c in conversations if modality in c.features}
        if len(in_batch) > 1:
            raise ValueError(f"{modality} features have different widths in one batch: {sorted(in_batch)}")
        widths[modality] = in_batch.pop() if in_batch else 0
    features = {m: np.zeros((*shape, widths[m]), np.float32) for m in modalities}
    for row, (conversation, n) in enumerate(zip(conversations, lengths, strict=True)):
        if n == 0:
            raise ValueError(f"conversation {row} has no utterances")
        mask[row, :n] = True
        speakers[row, :n] = conversation.speakers
        for column, modality in enumerate(modalities):
            if modality not in conversation.features:
                continue
            vectors: ModalityFeatures = conversation.features[modality]
            if len(vectors.values) != n or len(vectors.present) != n:
                raise ValueError(
                    f"conversation {row} has {n} speakers but {len(vectors.values)} rows of {modality} "
                    f"features and {len(vectors.present)} marks of presence"
                )
            observed = np.asarray(vectors.present, bool)
            values = np.where(observed[:, None], vectors.values, 0)
            if not np.isfinite(values).all():
                where = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
                raise ValueError(f"conversation {row}, utterance {where}: {modality} features are not finite")
            present[row, :n, column] = observed
            features[modality][row, :n] = values
    return Batch(
        features={m: torch.from_numpy(x) for m, x in features.items()},
        present=torch.from_numpy(present),
        mask=torch.from_numpy(mask),
        speakers=torch.from_numpy(speakers),
    )


class Classifier(nn.Module):
    """beta_i = softmax_j(x_i^T W_b x_j);  x~_i = sum_j beta_ij x_j;  l_i = ReLU(W_l x~_i + b)

    Equations 16-19. Attention over the utterances j of the dialogue, and the hidden layer l.

    Shapes:
        x (B, N, d), mask (B, N) bool, at (V,) flat places of the real utterances -> (V, classifier_width)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = 2 * config.recurrent_width + (config.graph_width if config.speaker_encoding else 0)
        self.kind, self.span = config.classifier_attention, config.attention_span
        self.score = nn.Linear(width, width, bias=False) if self.kind != "none" else None  # W_b
        self.hidden = nn.Linear(width * (2 if self.kind == "beside" else 1), config.classifier_width)

    def forward(self, x: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        if self.score is not None:
            one_head = x[:, None]
            query = self.score(x)[:, None].to(x.dtype)
            attended = attend(query, one_head, one_head, mask, span=self.span, scale=1.0)[:, 0]
            x = attended if self.kind == "replace" else torch.cat((x, attended), -1)
        return torch.relu(self.hidden(x.flatten(0, 1)[at]))


class Network(nn.Module):
    """F = Alignment(U);  g = BiGRU(F);  h2 = SpeakerEncoder(g);  l = Classifier([g; h2])  (equations 5-21)

    The heads are fine = W l + b and coarse = W' l + b'. Cross-modal context fusion and adaptive graph
    convolution, arXiv 2501.15063.

    The statistics that standardise the features are buffers ``mean_<modality>`` and ``std_<modality>``, 0 and
    1 until :meth:`set_normalisation`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        for modality, width in config.input_dims.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(width))
            self.register_buffer(f"std_{modality}", torch.ones(width))
        self.project = nn.ModuleDict(
            {m: nn.Linear(width, config.width(m)) for m, width in config.input_dims.items()}
        )
        self.missing = nn.ParameterDict()
        if config.missing:
            for m in config.modalities:
                self.missing[m] = nn.Parameter(0.02 * torch.randn(config.width(m)))
        self.alignment = Alignment(config)
        self.context = nn.GRU(
            config.fused_width,
            config.recurrent_width,
            config.recurrent_layers,
            batch_first=True,
            bidirectional=True,
        )
        self.speaker_encoder = SpeakerEncoder(config) if config.speaker_encoding else None
        self.classifier = Classifier(config)
        self.separate = Classifier(config) if config.coarse_head == "separate" else None
        self.fine = nn.Linear(config.classifier_width, config.classes)
        self.coarse = nn.Linear(config.classifier_width, len(SENTIMENTS))
        self.unimodal = nn.ModuleDict()
        if config.unimodal_heads:
            for m in config.modalities:
                self.unimodal[m] = nn.Linear(config.width(m), config.classes)
        self.log_variances = nn.Parameter(torch.zeros(2)) if config.loss == "uncertainty" else None
        shape = (config.classes, config.classifier_width)
        self.prototypes = nn.Parameter(torch.randn(shape)) if config.contrast_weight else None
        self.shift = nn.Linear(2 * config.classifier_width, 1) if config.shift_weight else None

    def set_normalisation(
        self, statistics: Mapping[str, tuple[Tensor | NDArray[np.floating], Tensor | NDArray[np.floating]]]
    ) -> None:
        """Set (mean, std), each (d,), of the training features by modality, before anything is trained.

        A feature that never varies gets a std of 1 and no weight: training can't tell what it means, and
        random weights would act on it once it does vary.

        Raises:
            ValueError: an unknown modality, another width, or a value that is not finite.
        """
        for modality, pair in statistics.items():
            if modality not in self.config.modalities:
                raise ValueError(f"normalisation names {modality}, which this network does not use")
            width = self.config.input_dims[modality]
            mean, std = (torch.as_tensor(np.asarray(v), dtype=torch.float32) for v in pair)
            if mean.shape != (width,) or std.shape != (width,):
                raise ValueError(
                    f"normalisation of {modality} must have {width} values; "
                    f"got {tuple(mean.shape)} and {tuple(std.shape)}"
                )
            if not (mean.isfinite().all() and std.isfinite().all() and (std >= 0).all()):
                raise ValueError(f"normalisation of {modality} must be finite, its std not negative")
            self.get_buffer(f"mean_{modality}").copy_(mean)
            self.get_buffer(f"std_{modality}").copy_(std.where(std > 0, 1.0))
            projection = self.project[modality]
            assert isinstance(projection, nn.Linear)
            with torch.no_grad():
                projection.weight[:, std == 0] = 0

    def forward(self, batch: Batch) -> Output:
        """Logits of every real utterance.

        Raises:
            ValueError: the batch does not fit the config (modalities, widths, speaker numbers).
        """
        config, mask = self.config, batch.mask
        lengths = mask.sum(1).cpu()  # the one wait for a CUDA device: packing needs them on the CPU
        at = mask.flatten().nonzero()[:, 0]  # (V,)
        present = self._hide(batch.present & mask[..., None])  # (B, N, M)

        unimodal = self._unimodal(batch, present)
        keys = {m: present[..., k] if config.missing else mask for k, m in enumerate(config.modalities)}
        fused = self.alignment(unimodal, keys)  # (B, N, fused_width)
        x = self._context(fused, lengths)  # g (B, N, 200)
        if self.speaker_encoder is not None:
            graph = build_graph(
                lengths,
                batch.speakers.flatten()[at],
                config.window_past,
                config.window_future,
                config.relations,
                config.n_speakers,
            )
            h2 = self.speaker_encoder(x.flatten(0, 1)[at], graph)  # (V, 100)
            spread = h2.new_zeros(mask.numel(), h2.shape[1]).index_copy(0, at, h2)
            x = torch.cat((x, spread.view(*mask.shape, -1)), -1)  # (B, N, 300)

        hidden = self.classifier(x, mask, at)  # (V, 100)
        for_coarse = hidden if self.separate is None else self.separate(x, mask, at)
        dropped = drop(hidden, config.dropout, self.training)
        for_coarse = dropped if self.separate is None else drop(for_coarse, config.dropout, self.training)
        output = Output(
            fine=self.fine(dropped),
            coarse=self.coarse(for_coarse),
            present=present.flatten(0, 1)[at],
            hidden=hidden,
            log_variances=self.log_variances,
            prototypes=self.prototypes,
            dialogue=at // mask.shape[1],
        )
        if config.unimodal_heads:
            output.unimodal = {m: h(unimodal[m].flatten(0, 1)[at]) for m, h in self.unimodal.items()}
        if self.shift is not None:
            output.previous = previous_by_speaker(lengths, batch.speakers.flatten()[at])
            before = hidden[output.previous.clamp(min=0)]
            output.shift = self.shift(torch.cat((hidden, before), -1))[:, 0]
        return output

    def _unimodal(self, batch: Batch, present: Tensor) -> dict[str, Tensor]:
        """U^T, U^A, U^V, each (B, N, width): standardised, projected; the learned token where absent."""
        config, out = self.config, {}
        if batch.present.shape[-1] != len(config.modalities):
            raise ValueError(
                f"the batch marks {batch.present.shape[-1]} modalities as present or not, "
                f"the network uses {len(config.modalities)}: {', '.join(config.modalities)}"
            )
        for k, m in enumerate(config.modalities):
            width, observed = config.input_dims[m], present[..., k, None]
            raw = batch.features.get(m)
            if raw is None or raw.shape[-1] == 0:
                raw = observed.new_zeros((*observed.shape[:2], width), dtype=torch.float32)
            if raw.shape[-1] != width:
                raise ValueError(f"{m} features have width {raw.shape[-1]}, the network expects {width}")
            mean, std = self.get_buffer(f"mean_{m}"), self.get_buffer(f"std_{m}")
            values = (raw.to(mean.dtype) - mean) / std
            if config.feature_clip:
                values = values.clamp(-config.feature_clip, config.feature_clip)
            # Chosen, not multiplied: whatever stands in an absent row, NaN too, must not get through.
            projected = self.project[m](values.where(observed, 0)).to(mean.dtype)
            if config.missing:
                projected = torch.where(observed, projected, self.missing[m])
            out[m] = drop(projected, config.feature_dropout, self.training)
        return out

    def _hide(self, present: Tensor) -> Tensor:
        """Modality dropout: in half of the dialogues by utterance, in the other half throughout.

        Recordings lack a modality in both ways: no camera at all, or a face that leaves the picture.
        """
        rate = self.config.modality_dropout
        if not self.training or rate == 0:
            return present
        chance = torch.rand(present.shape, device=present.device)
        throughout = torch.rand(len(present), 1, 1, device=present.device) < 0.5
        chance = torch.where(throughout, chance[:, :1], chance)
        best = chance.where(present, -1.0).argmax(-1, keepdim=True)
        kept = (chance >= rate).scatter(-1, best, True)  # at least one of those present
        return present & kept

    def _context(self, fused: Tensor, lengths: Tensor) -> Tensor:
        """g (B, N, 2 recurrent_width). Packed, so that the backward pass starts at the last utterance."""
        # Outside autocast: the CPU's GRU takes no mix of precisions.
        with torch.autocast(fused.device.type, enabled=False):
            packed = pack_padded_sequence(
                fused.to(self.fine.weight.dtype),
                lengths.clamp(min=1),
                batch_first=True,
                enforce_sorted=False,
            )
            g, _ = pad_packed_sequence(self.context(packed)[0], batch_first=True, total_length=fused.shape[1])
        out: Tensor = drop(g, self.config.context_dropout, self.training)
        return out
