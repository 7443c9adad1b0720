"""Speakers and a window become typed edges, in vectorised steps.

An edge (j, i) carries what utterance j tells utterance i: i receives. The window of i is the ``past``
utterances before it and the ``future`` ones after it within its dialogue. Time and memory are linear in the
number of edges.

Letters of shapes: B dialogues, V utterances in all, E directed edges (self-loops among them), R relations, S
speakers where identity counts (``n_speakers``). Equations are those of arXiv 2501.15063.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """The edges of a batch of dialogues; nodes are its V utterances, dialogue by dialogue.

    The first ``neighbours`` edges join different utterances, sorted by receiver and then by sender. The
    V edges after them are the self-loops, in the order of the nodes.
    """

    senders: Tensor  # (E,) long
    receivers: Tensor  # (E,) long
    relations: Tensor  # (E,) long; a self-loop has the relation of its own speaker's past
    nodes: int  # V
    neighbours: int  # E - V

    @property
    def edge_index(self) -> Tensor:
        """(2, E): senders above receivers, as torch_geometric has it."""
        return torch.stack((self.senders, self.receivers))


def build_graph(
    lengths: Tensor,
    speakers: Tensor,
    past: int,
    future: int,
    relations: Literal["speaker_pair", "same_diff"] = "same_diff",
    n_speakers: int = 2,
) -> Graph:
    """j -> i where i - past <= j <= i + future, within a dialogue  (the edges of equation 11)

    Every utterance is connected to those in its window, and to itself.

    Relations, with q = 0 where j is before i and 1 where it is after:
    ``same_diff``: 2 [speaker(i) != speaker(j)] + q, 4 in all;
    ``speaker_pair``: 2 (speaker(i) n_speakers + speaker(j)) + q, 2 n_speakers^2 in all.

    Args:
        lengths: (B,) utterances of each dialogue; keep it on the CPU, its sums are needed there.
        speakers: (V,) speaker of each utterance, on the device that the graph is to live on.

    Raises:
        ValueError: lengths and speakers disagree, or a speaker number exceeds ``n_speakers`` where
            relations depend on it.

    Shapes:
        lengths [3], window 1 and 1: senders [1, 0, 2, 1, 0, 1, 2], receivers [0, 1, 1, 2, 0, 1, 2].
    """
    device = speakers.device
    counts = lengths.to("cpu", torch.long)
    nodes = int(counts.sum())
    if nodes != len(speakers):
        raise ValueError(
            f"the dialogues have {nodes} utterances in all but {len(speakers)} speakers are given"
        )
    if (
        relations == "speaker_pair"
        and nodes
        and not 0 <= int(speakers.min()) <= int(speakers.max()) < n_speakers
    ):
        raise ValueError(
            f"speaker numbers must be 0 to {n_speakers - 1} for relations by speaker pair; got "
            f"{int(speakers.min())} to {int(speakers.max())}. Without a fixed cast use same_diff"
        )
    # A dialogue of n utterances has (n - 1) + (n - 2) + ... pairs at distances 1 to the window's reach.
    # Knowing the total beforehand spares a CUDA device the wait for it.
    reach_past, reach_future = (counts.sub(1).clamp(min=0, max=w) for w in (past, future))
    pairs = sum((counts * r - r * (r + 1) // 2).sum() for r in (reach_past, reach_future))
    neighbours = int(pairs)

    counts = counts.to(device)
    ends = counts.cumsum(0)
    node = torch.arange(nodes, device=device)
    start = torch.repeat_interleave(ends - counts, counts, output_size=nodes)
    end = torch.repeat_interleave(ends, counts, output_size=nodes)
    first = torch.maximum(node - past, start)  # of the window of each receiver
    degree = torch.minimum(node + future + 1, end) - first - 1
    # Edge k of a receiver is its k-th sender, counted from the window's first, itself skipped.
    offset = first - (degree.cumsum(0) - degree)
    receivers = torch.repeat_interleave(node, degree, output_size=neighbours)
    senders = torch.arange(neighbours, device=device) + offset[receivers]
    senders += senders >= receivers
    is_future = senders > receivers

    spoken_by, heard_by = speakers[senders], speakers[receivers]
    if relations == "same_diff":
        kind = (spoken_by != heard_by).long()
        self_kind = torch.zeros_like(node)
    else:
        kind = heard_by * n_speakers + spoken_by
        self_kind = speakers * (n_speakers + 1)
    return Graph(
        senders=torch.cat((senders, node)),
        receivers=torch.cat((receivers, node)),
        relations=torch.cat((2 * kind + is_future, 2 * self_kind)),
        nodes=nodes,
        neighbours=neighbours,
    )


def previous_by_speaker(lengths: Tensor, speakers: Tensor) -> Tensor:
    """(V,) index of the same speaker's previous utterance in the dialogue, or -1 at their first."""
    dialogue = torch.repeat_interleave(torch.arange(len(lengths)), lengths.cpu()).to(speakers.device)
    by_speaker = torch.sort(speakers, stable=True).indices
    order = by_speaker[torch.sort(dialogue[by_speaker], stable=True).indices]
    before, after = order[:-1], order[1:]
    same = (speakers[before] == speakers[after]) & (dialogue[before] == dialogue[after])
    previous = torch.full_like(speakers, -1)
    previous[after] = torch.where(same, before, -1)
    return previous
