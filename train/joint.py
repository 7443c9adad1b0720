"""A network and the text encoder that feeds it, as one model.

The only place that turns texts into vectors with gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from annotator.encode.precision import mixed_precision
from annotator.encode.text import TextEncoder
from annotator.records import Features
from model import Network, Output, collate
from train.corpus import Corpus, LabelledConversation

# That go through the encoder together, padding included: a step of 245 utterances takes 7 s on one core so,
# and 13 s with four times as many.
BATCH_TOKENS = 1024

Texts = Sequence[str | None]  # of the utterances of a dialogue; None where there is nothing to read
Read = tuple[Tensor, Tensor]  # vectors (V, d) of a batch's utterances, and which of them have text (V,)


class JointModel(nn.Module):
    """A network with the text encoder that may be trained with it.

    Args:
        encoder: None where the text features of the dialogues stay as they are.
        texts: what the encoder reads of each dialogue, by its id.
    """

    def __init__(
        self, network: Network, encoder: TextEncoder | None = None, texts: Mapping[str, Texts] | None = None
    ) -> None:
        super().__init__()
        self.network, self.encoder, self.texts = network, encoder, texts or {}
        if encoder is not None:
            self.module = encoder.module  # registered, so that its parameters are ours

    def read(
        self,
        dialogues: Sequence[LabelledConversation],
        garble: Callable[[Texts], Texts] | None = None,
    ) -> Read | None:
        """Vectors (V, d) of the texts, with gradients; None without an encoder.

        Args:
            garble: what is made of the texts of a dialogue before.
        """
        if self.encoder is None:
            return None
        talks = [self.texts[d.dialogue_id] for d in dialogues]
        return encode_present(
            self.encoder, [text for talk in talks for text in (garble(talk) if garble else talk)]
        )

    def forward(self, dialogues: Sequence[LabelledConversation], read: Read | None = None) -> Output:
        """Logits of a batch of dialogues.

        Args:
            read: vectors of its utterances in the place of the dialogues' text features.
        """
        device = next(self.network.parameters()).device
        batch = collate([d.conversation for d in dialogues], self.network.config.modalities).to(device)
        if read is not None:
            values, present = read
            features = values.new_zeros((*batch.mask.shape, values.shape[-1]))
            features[batch.mask] = values
            batch.features["text"] = features
            column = self.network.config.modalities.index("text")
            batch.present[..., column][batch.mask] = present
        output: Output = self.network(batch)
        return output

    def adapter(self) -> dict[str, nn.Parameter]:
        """The weights of the encoder's low-rank adapter, by name."""
        if self.encoder is None:
            return {}
        return {name: p for name, p in self.module.named_parameters() if "lora_" in name}

    def encoded(self, dialogues: Sequence[LabelledConversation]) -> list[LabelledConversation]:
        """The dialogues with the encoder's present vectors as their text features."""
        if self.encoder is None:
            return list(dialogues)
        return with_vectors(dialogues, [self.texts[d.dialogue_id] for d in dialogues], self.encoder)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the adapter and of all of the network, its normalisation included."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        named |= {f"text.{name}": tensor for name, tensor in self.adapter().items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`."""
        of = {
            part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
            for part in ("network.", "text.")
        }
        self.network.load_state_dict(of["network."])
        if self.encoder is not None:
            self.module.load_state_dict(of["text."], strict=False)


def encode_trained(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    """Vectors (n, d) with gradients, texts of like length together."""
    batches = encoder.batches(texts, BATCH_TOKENS)
    with mixed_precision(encoder.device):
        parts = [encoder.pool(encoder.tokenize([texts[i] for i in rows])) for rows in batches]
    order = torch.tensor([row for rows in batches for row in rows])
    return torch.cat(parts)[order.argsort()].float()  # a projection computes in the lower precision, too


def encode_present(encoder: TextEncoder, texts: Texts) -> Read:
    """Vectors (n, d) with gradients, zeros for what has no text, and which have some (n,)."""
    present = torch.tensor([text is not None for text in texts], device=encoder.device)
    values = torch.zeros(len(texts), encoder.width, device=encoder.device)
    there = [text for text in texts if text is not None]
    if there:
        values = values.index_put((present.nonzero()[:, 0],), encode_trained(encoder, there))
    return values, present


def with_vectors(
    dialogues: Sequence[LabelledConversation], texts: Sequence[Texts], encoder: TextEncoder
) -> list[LabelledConversation]:
    """The dialogues with an encoder's vectors of ``texts``, dialogue by dialogue, as their text features."""
    flat = [text for talk in texts for text in talk]
    present = np.array([text is not None for text in flat], np.bool_)
    values = np.zeros((len(flat), encoder.width), np.float32)
    values[present] = encoder.encode_texts([text for text in flat if text is not None])
    return with_text(dialogues, Features(values, present))


def with_text(dialogues: Sequence[LabelledConversation], text: Features) -> list[LabelledConversation]:
    """The dialogues with other text features (V, d), which stand one dialogue after the other."""
    changed, first = [], 0
    for d in dialogues:
        rows = slice(first, first + len(d))
        features = {
            **d.conversation.features,
            "text": Features(text.values[rows], text.present[rows]),
        }
        talk = dataclasses.replace(d.conversation, features=features)
        changed.append(dataclasses.replace(d, conversation=talk))
        first += len(d)
    return changed


def texts_of(corpus: Corpus, dialogues: Sequence[LabelledConversation]) -> dict[str, Texts]:
    """The texts of a corpus' dialogues as its table has them, by dialogue; None of those without a vector."""
    texts = corpus.table["text"].to_list()
    return {
        d.dialogue_id: [
            text if present else None
            for text, present in zip(
                texts[d.first_row : d.first_row + len(d)],
                d.conversation.features["text"].present,
                strict=True,
            )
        ]
        for d in dialogues
    }


def encoded_split(
    corpus: Corpus, split: str, encoder: TextEncoder, limit: int | None = None
) -> list[LabelledConversation]:
    """The dialogues of a split, at most ``limit``, with the encoder's present vectors."""
    dialogues = corpus.conversations(split)[:limit]
    return with_vectors(dialogues, list(texts_of(corpus, dialogues).values()), encoder)
