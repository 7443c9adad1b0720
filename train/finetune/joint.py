"""The network and the text encoder as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from annotator.records import Utterance
from model import Network, Output, collate
from train.corpus import LabelledConversation
from train.finetune.text import TrainableText


class Model(nn.Module):
    """The network with the text encoder whose adapter may be trained."""

    def __init__(
        self,
        network: Network,
        text: TrainableText | None,
        utterances: Mapping[str, Sequence[Utterance]],
    ) -> None:
        super().__init__()
        self.network, self.text, self.utterances = network, text, utterances

    def output(self, batch: Sequence[LabelledConversation], with_text: bool) -> Output:
        """Logits of a batch; its text is encoded with gradients if ``with_text``."""
        device = next(self.network.parameters()).device
        found = collate([c.conversation for c in batch], self.network.config.modalities).to(device)
        if with_text and self.text is not None:
            vectors, present = self.text.vectors([self.utterances[c.dialogue_id] for c in batch])
            values = found.features["text"]
            if values.shape[-1] != vectors.shape[-1]:
                values = vectors.new_zeros((*found.mask.shape, vectors.shape[-1]))
            values = values.clone()
            values[found.mask] = vectors.to(values)
            found.features["text"] = values
            column = self.network.config.modalities.index("text")
            found.present[..., column][found.mask] = present.to(found.present.device)
        result: Output = self.network(found)
        return result

    def encoded(self, conversations: Sequence[LabelledConversation]) -> list[LabelledConversation]:
        """The dialogues as the model sees them now."""
        return list(conversations) if self.text is None else self.text.encoded(conversations, self.utterances)

    def tensors(self) -> dict[str, Tensor]:
        """All that may have been trained, and the normalisation."""
        found = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.text is not None:
            found |= {f"text.{name}": tensor for name, tensor in self.text.adapter().items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`."""
        of = {
            part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
            for part in ("network.", "text.")
        }
        self.network.load_state_dict(of["network."])
        if self.text is not None:
            self.text.module.load_state_dict(of["text."], strict=False)
