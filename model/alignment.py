"""Co-attention between pairs of modalities over the utterances of a dialogue (equations 5-8).

    X = U^m P_m, Y = U^n P_n, plus sinusoidal positions
    E_mn = Block(query X, key and value Y);  E_nm = Block(query Y, key and value X)
    Block: z = q + MHA(LN q, LN kv, LN kv);  out = z + FFN(LN z)
    F = [U^T; U^A; U^V; E_TA; E_AT; E_AV; E_VA; E_TV; E_VT]

The paper gives what F joins but not the order; the order only permutes the next layer's weights.

Letters of shapes: B dialogues, N utterances of the longest (shorter ones are padded), H heads, d the width of
a vector. Equations are those of arXiv 2501.15063.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from model.config import ModelConfig
from model.dropout import Dropout


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keys: Tensor,
    *,
    span: int | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale Q K^T) V  (Vaswani et al. 2017), over those utterances that may be keys.

    A query without any gets zeros.

    Args:
        query, key, value: (B, H, N, d).
        keys: (B, N) bool, which utterances may be attended to.
        span: reach to each side in utterances; None: the whole dialogue. With a span, time and memory are
            O(N span), in blocks of ``span`` queries that see their own and both adjacent blocks.
        causal: only utterances up to the query's own.
        dropout: rate on the attention weights (give 0 outside training).
        scale: factor of the scores; None: 1 / sqrt(d).

    Returns:
        (B, H, N, d)
    """
    batch, heads, n, width = query.shape
    if span is None or n <= span + 1:
        allowed = keys[:, None, None, :]
        if causal:
            allowed = allowed & torch.ones(n, n, dtype=torch.bool, device=keys.device).tril()
        return _attend(query, key, value, allowed, dropout, scale)

    blocks = -(-n // span)
    fill = blocks * span - n
    query = pad(query, (0, 0, 0, fill)).view(batch, heads, blocks, span, width)
    key, value = (pad(t, (0, 0, span, span + fill)).unfold(2, 3 * span, span).mT for t in (key, value))
    near = pad(keys, (span, span + fill)).unfold(1, 3 * span, span)  # (B, blocks, 3 span)
    at = torch.arange(span, device=keys.device)[:, None]
    distance = torch.arange(-span, 2 * span, device=keys.device)[None, :] - at  # (span, 3 span)
    band = (distance <= 0 if causal else distance <= span) & (distance >= -span)
    # Blocks join the batch, so the fused kernels see four dimensions.
    query, key, value = (t.transpose(1, 2).flatten(0, 1) for t in (query, key, value))
    allowed = (near[:, :, None, :] & band).flatten(0, 1)[:, None]  # (B blocks, 1, span, 3 span)
    out = _attend(query, key, value, allowed, dropout, scale)
    out = out.view(batch, blocks, heads, span, -1).transpose(1, 2)
    return out.flatten(2, 3)[:, :, :n]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, dropout: float, scale: float | None
) -> Tensor:
    # A softmax over nothing is NaN: such a query attends to everything, and its result is set to zero.
    any_key = allowed.any(-1, keepdim=True)
    out = scaled_dot_product_attention(
        query, key, value, attn_mask=allowed | ~any_key, dropout_p=dropout, scale=scale
    )
    return out * any_key


def positions(n: int, width: int, like: Tensor) -> Tensor:
    """(n, width) sinusoidal positions (Vaswani et al. 2017), on ``like``'s device, in its precision."""
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000.0) / width))
    angle = torch.arange(n, device=like.device)[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, :width].to(like.dtype)


class CoAttentionBlock(nn.Module):
    """z = q + MHA(LN q, LN kv, LN kv);  E = z + FFN(LN z)  (equations 5-7)

    One direction: a modality queries (q), another is key and value (kv). What stands inside the block the
    paper leaves open.

    Shapes:
        query (B, N, co_width), other (B, N, co_width), keys (B, N) bool -> (B, N, co_width)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.co_width
        self.config = config
        self.norm_query, self.norm_other, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.join = (nn.Linear(width, width) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.co_ffn),
            nn.ReLU(),
            Dropout(config.co_dropout),
            nn.Linear(config.co_ffn, width),
        )
        self.drop = Dropout(config.co_dropout)

    def forward(self, query: Tensor, other: Tensor, keys: Tensor) -> Tensor:
        if self.config.co_norm == "pre":
            z = query + self._attention(self.norm_query(query), self.norm_other(other), keys)
            out: Tensor = z + self.drop(self.feed_forward(self.norm_out(z)))
            return out
        z = self.norm_query(query + self._attention(query, self.norm_other(other), keys))
        out = self.norm_out(z + self.drop(self.feed_forward(z)))
        return out

    def _attention(self, query: Tensor, other: Tensor, keys: Tensor) -> Tensor:
        config = self.config
        q, k, v = (
            t.unflatten(-1, (config.co_heads, -1)).transpose(1, 2)  # (B, H, N, d)
            for t in (self.query(query), self.key(other), self.value(other))
        )
        rate = config.co_dropout if self.training else 0.0
        out = attend(q, k, v, keys, span=config.attention_span, causal=config.co_causal, dropout=rate)
        joined: Tensor = self.drop(self.join(out.transpose(1, 2).flatten(2)))
        return joined


class Alignment(nn.Module):
    """F = [U^T; U^A; U^V; E_TA; E_AT; E_AV; E_VA; E_TV; E_VT]  (equation 8)

    All directions between the modalities of a config, and their join.

    Shapes:
        unimodal {m: (B, N, width of m)}, keys {m: (B, N) bool} -> (B, N, fused_width)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        aligned = sorted({m for pair in config.pairs for m in pair})
        self.project = nn.ModuleDict({m: nn.Linear(config.width(m), config.co_width) for m in aligned})
        self.blocks = nn.ModuleDict(
            {
                f"{m}_{n}_{layer}": CoAttentionBlock(config)
                for m, n in config.directions
                for layer in range(config.co_layers)
            }
        )
        self.gates = nn.ModuleDict()
        if config.gated:
            for m, n in config.directions:
                gate = nn.Linear(2 * config.co_width, config.co_width)
                nn.init.constant_(gate.bias, config.gate_bias)
                self.gates[f"{m}_{n}"] = gate

    def forward(self, unimodal: Mapping[str, Tensor], keys: Mapping[str, Tensor]) -> Tensor:
        parts = [unimodal[m] for m in self.config.modalities]
        projected = {m: project(unimodal[m]) for m, project in self.project.items()}
        placed = dict(projected)
        if self.config.co_positions:
            placed = {m: x + positions(x.shape[1], x.shape[2], x) for m, x in projected.items()}
        for m, n in self.config.directions:
            name = f"{m}_{n}"
            crossed = placed[m]
            for layer in range(self.config.co_layers):
                block = self.blocks[f"{name}_{layer}"]
                crossed = block(crossed, placed[n], keys[n])
            if self.config.gated:
                gate = torch.sigmoid(self.gates[name](torch.cat((projected[m], crossed), -1)))
                crossed = projected[m] + gate * crossed
            parts.append(crossed)
        return torch.cat(parts, -1)
