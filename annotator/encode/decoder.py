"""Text features of a language model that writes (Qwen, Llama, Gemma, ...): it reads the dialogue as a prompt.

    A conversation:
    Ann: You sold my car?
    Bob: I said I am sorry.
    In one word, Bob feels

The state of the last token, from which the model would go on, is the vector (after Jiang et al., EMNLP 2024
Findings, "Scaling Sentence Embeddings with Large Language Models").

Tokens are made line by line, so that the prompts of a dialogue share their beginnings; on a CPU, keys and
values of lines that were read are kept for the next utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from annotator.encode.precision import has_fast_bf16
from annotator.encode.text import (
    TextEncoder,
    has_text,
    load_folder,
)
from annotator.records import Evidence, Features, SetupError, Utterance
from annotator.threads import one_thread

OPENING = "A conversation:\n"
QUESTION = "In one word, {} feels"
CONTEXT = 8  # earlier utterances in a prompt, where the spec doesn't say
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
POOLS = ("last", "mean")


def default_precision(device: str) -> str:
    return "bfloat16" if has_fast_bf16(torch.device(device)) else "float32"


class DecoderEncoder(TextEncoder):
    """A language model as text encoder. A prompt holds ``context`` to twice as many earlier utterances.

    The first of them changes every ``context`` utterances only: the prompts between share their beginning.

    Args:
        layer: whose states are taken, from 1, by way of the model's last normalisation. Those above are
            dropped once all are loaded. The last one when None.
        pool: ``last`` token, or the ``mean`` over the prompt.
        precision: of PRECISIONS; by default bfloat16 where the device computes in it, else single.

    Raises: SetupError when the folder, the adapter or the layer can't be used.
    """

    max_tokens = 1024
    batch_tokens = 8192

    def __init__(
        self,
        name: str,
        path: Path,
        device: str = "cpu",
        *,
        adapter: Path | None = None,
        context: int = CONTEXT,
        merge: bool = True,
        layer: int | None = None,
        pool: str = "last",
        precision: str | None = None,
    ) -> None:
        self.precision = precision or default_precision(device)
        self.layer, self.pool_of = layer, pool
        super().__init__(name, path, device, adapter=adapter, context=context, merge=merge)

    def _loaded(self) -> tuple[Any, nn.Module]:
        tokenizer, module = load_folder(self.path, PRECISIONS[self.precision])
        layers = getattr(module, "layers", None)
        if self.layer is not None:
            if not isinstance(layers, nn.ModuleList):
                raise SetupError(f"The layers of the model at {self.path} can't be told: leave out `layer`.")
            if not 1 <= self.layer <= len(layers):
                raise SetupError(f"The model at {self.path} has no layer {self.layer}; it has {len(layers)}.")
            del layers[self.layer :]
            config: Any = module.config
            config.num_hidden_layers = self.layer
        return tokenizer, module

    def _described(self) -> str:
        said = [self.max_tokens, self.context, self.layer, self.pool_of, self.precision, OPENING, QUESTION]
        return f"text decoder {said}"

    def texts(self, utterances: Sequence[Utterance]) -> list[str | None]:
        return [
            None if there is None else OPENING + "".join(there[0]) + there[1]
            for there in self._prompts(utterances)
        ]

    def _prompts(self, utterances: Sequence[Utterance]) -> list[tuple[list[str], str] | None]:
        """The lines of each utterance's prompt, its own the last, and the question; None without text."""
        prompts: list[tuple[list[str], str] | None] = []
        lines: list[str] = []
        dialogue: int | None = None
        for utterance in utterances:
            if utterance.dialogue_id != dialogue:
                lines, dialogue = [], utterance.dialogue_id
            if not has_text(utterance):
                prompts.append(None)
                continue
            speaker = " ".join(utterance.speaker.split())
            lines.append(f"{speaker}: {' '.join(str(utterance.text).split())}\n")
            before = len(lines) - 1
            start = max(0, before // self.context * self.context - self.context) if self.context else before
            prompts.append((lines[start:], QUESTION.format(speaker)))
        return prompts

    def _ids(self, text: str) -> list[int]:
        """Of a prompt, line by line. Where there are too many, earlier lines go, then words of the last."""
        opening, *lines = [self._of_line(line) for line in text.splitlines(keepends=True)]
        first = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        room = self.max_tokens - len(first) - len(opening)
        while len(lines) > 2 and sum(map(len, lines)) > room:
            del lines[0]
        return first + opening + [i for line in lines for i in line][-room:]

    def _of_line(self, line: str) -> list[int]:
        # What people say is text, even where it looks like a control token of the model.
        tokens = self.tokenizer(line, add_special_tokens=False, split_special_tokens=True)
        ids: list[int] = tokens["input_ids"]
        return ids

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(self._ids(text)) for text in texts]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Padded ids and mask ``(n, t)``, t at most ``max_tokens``. A longer prompt keeps its end."""
        ids = [self._ids(text) for text in texts]
        longest = max(map(len, ids))
        pad = self.tokenizer.pad_token_id
        rows = [row + [pad] * (longest - len(row)) for row in ids]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
        return {
            "input_ids": torch.tensor(rows, device=self.device),
            "attention_mask": torch.tensor(mask, device=self.device),
        }

    def pool(self, tokens: dict[str, Tensor]) -> Tensor:
        """The state of the last real token, or the mean over real tokens, ``(n, d)`` float32."""
        if self.pool_of == "mean":
            return super().pool(tokens)
        states: Tensor = self.module(**tokens, use_cache=False).last_hidden_state  # (n, t, d)
        last = tokens["attention_mask"].sum(1) - 1
        return self._projected(states[torch.arange(len(last), device=last.device), last].float())

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        # A graphics card gains more by many prompts at a time than by short ones.
        if self.device.type != "cpu" or self.pool_of != "last":
            return super().__call__(evidence, utterances)
        prompts = self._prompts(utterances)
        values = np.zeros((len(prompts), self.width), np.float32)
        with torch.no_grad(), one_thread(self.device):
            kept = _Kept(self)
            for row, prompt in enumerate(prompts):
                if prompt is not None:
                    values[row] = kept.state(*prompt)
        return Features(values, np.array([prompt is not None for prompt in prompts], np.bool_))


class _Kept:
    """Keys and values of the lines that were read last, for a prompt that begins with the same."""

    def __init__(self, encoder: DecoderEncoder) -> None:
        self.encoder = encoder
        self.ids: list[int] = []
        self.cache: Any = None

    def state(self, lines: Sequence[str], question: str) -> Any:
        """(d,) of a prompt's last token."""
        from transformers import DynamicCache

        ids = self.encoder._ids(OPENING + "".join(lines) + question)
        shared = 0
        while shared < min(len(ids) - 1, len(self.ids)) and ids[shared] == self.ids[shared]:
            shared += 1
        if self.cache is None or shared == 0 or not self.cache.is_croppable:
            config: Any = self.encoder.module.config
            self.cache, shared = DynamicCache(config=config), 0
        elif shared < len(self.ids):
            self.cache.crop(shared - len(self.ids))
        new = torch.tensor([ids[shared:]], device=self.encoder.device)
        output = self.encoder.module(input_ids=new, past_key_values=self.cache, use_cache=True)
        self.ids = ids
        return self.encoder._projected(output.last_hidden_state[:, -1].float())[0].cpu().numpy()
