"""The text encoder in a fine-tuning: its adapter, with gradients.

The only place here that knows how an encoder turns utterances into vectors with gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from annotator.encode import can_read, make_encoder, part_file
from annotator.encode.adapters import load_adapter, save_adapter
from annotator.encode.text import TextEncoder
from annotator.records import Conversation, Features, UsageError, Utterance
from model import Checkpoint
from train.adapter import ADAPTER, LAYERS, encode_trained
from train.corpus import Corpus, LabelledConversation
from train.prepare.languages import dialogue_languages


class TrainableText(nn.Module):
    """A text encoder whose adapter is trained: the start's own, or a new one where it has none.

    Args:
        spec: of the start's text encoder.
        folder: the start's.
        rank: of a new adapter.
    """

    def __init__(self, spec: Mapping[str, Any], folder: Path, device: str, rank: int, seed: int) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        super().__init__()
        # A second encoder was made for the vectors of the first as they were.
        plain = {key: value for key, value in spec.items() if key not in ("adapter", "second")}
        encoder = make_encoder("text", plain, folder, device)
        if not isinstance(encoder, TextEncoder):
            raise UsageError(f"The text encoder {encoder.name} has no adapter to train: use --text frozen.")
        if spec.get("adapter") is not None:
            file = part_file(spec["adapter"], folder)
            encoder.projection = load_adapter(encoder.module, file, merge=False)
            if encoder.projection is not None:
                encoder.projection.requires_grad_(False).to(device)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                lora = LoraConfig(
                    r=rank,
                    lora_alpha=2 * rank,
                    lora_dropout=0.1,
                    target_modules=layers_of(encoder.module),
                    use_rslora=False,
                )
                inject_adapter_in_model(lora, encoder.module)
        self.encoder = encoder
        self.module = encoder.module  # registered, so that its parameters are ours
        self.spec = {**plain, "adapter": ADAPTER}
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad = "lora_" in name
        self.module.to(device).eval()

    def adapter(self) -> dict[str, nn.Parameter]:
        """The adapter's weights by name."""
        return {name: p for name, p in self.module.named_parameters() if "lora_" in name}

    def vectors(self, dialogues: Sequence[Sequence[Utterance]]) -> tuple[Tensor, Tensor]:
        """Vectors (V, d) with gradients and which are present (V,), dialogue by dialogue."""
        texts = [text for d in dialogues for text in self.encoder.texts(d)]
        present = torch.tensor([text is not None for text in texts])
        known = [text for text in texts if text is not None]
        out = torch.zeros(len(texts), self.encoder.width, device=self.encoder.device)
        if known:
            out = out.index_put(
                (present.to(out.device).nonzero()[:, 0],), encode_trained(self.encoder, known)
            )
        return out, present

    def encoded(
        self, conversations: Sequence[LabelledConversation], utterances: Mapping[str, Sequence[Utterance]]
    ) -> list[LabelledConversation]:
        """The dialogues with the adapter's present vectors in the place of the corpus'."""
        self.module.eval()
        talks = [utterances[c.dialogue_id] for c in conversations]
        texts = [text for d in talks for text in self.encoder.texts(d)]
        values = np.zeros((len(texts), self.encoder.width), np.float32)
        present = np.array([text is not None for text in texts], np.bool_)
        values[present] = self.encoder.encode_texts([text for text in texts if text is not None])
        return replaced(conversations, Features(values, present))

    def save(self, folder: Path) -> None:
        """Write the adapter's file to a checkpoint's folder."""
        configs: Mapping[str, Any] = self.module.peft_config  # type: ignore[assignment]
        save_adapter(self.module, configs["default"], folder / ADAPTER, self.encoder.projection)


def layers_of(module: nn.Module) -> list[str]:
    """Names of the linear layers that an adapter changes: BERT's, or all of another model's."""
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if any(name.endswith(tuple(f".{layer}" for layer in LAYERS)) for name in linear):
        return LAYERS
    return sorted({name.rpartition(".")[2] for name in linear})


def replaced(conversations: Sequence[LabelledConversation], text: Features) -> list[LabelledConversation]:
    """The dialogues with other text features (V, d), one dialogue after the other."""
    result, first = [], 0
    for c in conversations:
        own = Features(text.values[first : first + len(c)], text.present[first : first + len(c)])
        talk = Conversation(c.conversation.speakers, {**c.conversation.features, "text": own})
        result.append(dataclasses.replace(c, conversation=talk))
        first += len(c)
    return result


def utterances_of(corpus: Corpus) -> dict[str, list[Utterance]]:
    """The utterances of each dialogue, as a text encoder takes them."""
    found: dict[str, list[Utterance]] = {}
    languages = dialogue_languages(corpus.table)
    for row in corpus.table.select("dialogue_id", "utterance_id", "speaker", "text").iter_rows():
        dialogue, number, speaker, text = row
        alone = Utterance(0, number, float(number), number + 0.5, speaker, 0.0, text or None)
        found.setdefault(dialogue, []).append(dataclasses.replace(alone, language=languages[dialogue]))
    return found


def is_read_by_second(corpus: Corpus, spec: Mapping[str, Any]) -> bool:
    """Whether some of a corpus' text goes to the second encoder of a spec."""
    if "second" not in spec:
        return False
    name = str(spec["name"])
    said = (u for dialogue in utterances_of(corpus).values() for u in dialogue)
    return any(u.text is not None and not can_read(name, u.text, u.language) for u in said)


def text_languages(corpus: Corpus, start: Checkpoint, trained: bool) -> list[str] | None:
    """Languages in which a model fine-tuned on a corpus has learned emotions; None where the start is silent.

    Args:
        trained: the text encoder too, which may have lost what the start knew.
    """
    known = start.meta.get("text_languages")
    if not isinstance(known, list):
        return None
    texts = corpus.table.filter((pl.col("split") == "train") & pl.col("text").is_not_null())
    new = {language for language in dialogue_languages(texts).values() if language is not None}
    return sorted(new | (set() if trained else set(known)))
