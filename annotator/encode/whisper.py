"""Voice features: states of the middle layers of Whisper's encoder, averaged over an utterance.

Whisper (Radford et al., 2022) writes down what is said; its first layers still hear how (which layers tell
emotions best across corpora is measured in docs/results/voice.md). The weights are those that the recogniser
carries. CTranslate2 gives the last layer only, so the first ones run in PyTorch.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from annotator.records import RATE_HZ, SetupError
from annotator.whisper_files import MODEL, WhisperFiles, embedded

Samples = NDArray[np.float32]
LAYERS = (2, 3)  # from 1
STATE = 320  # samples a state is of
LONGEST = 1500 * STATE  # samples that the encoder has positions for
PAD = int(0.3 * RATE_HZ)  # silence after a sound: a state hears a little of what comes
_FORMAT = 6  # of CTranslate2's files
_DTYPES = {0: "<f4", 4: "<f2"}  # its numbers for types; the others hold no weights of a float model


class WhisperStates:
    """The first layers of a Whisper's encoder.

    Args:
        weights: as ``read_encoder`` gives them.
        layers: whose states are pooled, from 1, in order.
        device: as torch names it.
    """

    def __init__(self, weights: Mapping[str, Tensor], layers: Sequence[int], device: str) -> None:
        from transformers import WhisperFeatureExtractor

        self.device = torch.device(device)
        self.layers = tuple(layers)
        self._weights = {name: value.float().to(self.device) for name, value in weights.items()}
        self._heads = int(weights["num_heads"])
        bins = weights["conv1/weight"].shape[1]
        self._extractor: Any = WhisperFeatureExtractor(feature_size=bins)  # type: ignore[no-untyped-call]

    @property
    def width(self) -> int:
        """Of a pooled vector: mean and deviation of each layer."""
        return int(2 * len(self.layers) * self._weights["conv1/bias"].shape[0])

    def pooled(self, samples: Samples) -> NDArray[np.float32]:
        """Mean and deviation over the states of a sound: ``(width,)``, layer by layer.

        Args:
            samples: ``(n,)`` in [-1, 1] at 16 kHz, n > 0. What is longer than 30 s is heard in pieces.
        """
        count = math.ceil(len(samples) / (LONGEST - PAD))
        with torch.inference_mode():
            pieces = [self.states(piece) for piece in np.array_split(samples, count)]
            states = torch.cat(pieces, 1)  # (layers, T, d)
            pooled = torch.cat((states.mean(1), states.std(1, correction=0)), 1)
        out: NDArray[np.float32] = pooled.flatten().cpu().numpy()
        return out

    def states(self, samples: Samples) -> Tensor:
        """States ``(layers, T, d)`` of a sound of less than 30 s, one for each 20 ms of it."""
        padded = np.concatenate([samples, np.zeros(PAD, np.float32)])
        mel = self._extractor(padded, sampling_rate=RATE_HZ, padding="longest", return_tensors="np")
        x = torch.from_numpy(np.asarray(mel.input_features, np.float32)).to(self.device)
        w = self._weights
        x = F.gelu(F.conv1d(x, w["conv1/weight"], w["conv1/bias"], padding=1))
        x = F.gelu(F.conv1d(x, w["conv2/weight"], w["conv2/bias"], stride=2, padding=1))
        x = x[0].T + w["position_encodings/encodings"][: x.shape[2]]  # (T, d)
        found = []
        for number in range(1, max(self.layers) + 1):
            x = self._layer(x, f"layer_{number - 1}/")
            if number in self.layers:
                found.append(x[: math.ceil(len(samples) / STATE)])
        return torch.stack(found)

    def _layer(self, x: Tensor, name: str) -> Tensor:
        """A pre-norm transformer layer over ``(T, d)``."""
        y = self._norm(x, name + "self_attention/")
        q, k, v = (
            part.view(len(part), self._heads, -1).transpose(0, 1)
            for part in self._linear(y, name + "self_attention/linear_0/").chunk(3, 1)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
        x = x + self._linear(y, name + "self_attention/linear_1/")
        y = F.gelu(self._linear(self._norm(x, name + "ffn/"), name + "ffn/linear_0/"))
        return x + self._linear(y, name + "ffn/linear_1/")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[name + "weight"], self._weights[name + "bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        gamma, beta = (self._weights[f"{name}layer_norm/{part}"] for part in ("gamma", "beta"))
        return F.layer_norm(x, gamma.shape, gamma, beta)


def carried_whisper() -> WhisperFiles:
    """Raises: SetupError when the embedded Whisper is not installed."""
    found = embedded()
    if found is None:
        raise SetupError(
            "The voice is heard by the embedded Whisper, which is missing: install the annotator again, "
            "or run with --modalities text,face."
        )
    return found


def load_states(layers: Sequence[int] = LAYERS, device: str = "cpu") -> WhisperStates:
    """The first layers of the embedded Whisper.

    Raises: SetupError when it is not installed, or its files are not as recorded.
    """
    files = carried_whisper()
    folder = files.whole()
    if folder is not None:
        with open(folder / MODEL, "rb") as file:
            return WhisperStates(read_encoder(file, max(layers)), layers, device)
    return WhisperStates(read_encoder(BytesIO(files.read(MODEL) or b""), max(layers)), layers, device)


def read_encoder(file: BinaryIO, layers: int) -> dict[str, Tensor]:
    """Weights of the encoder's first ``layers`` in a file of CTranslate2's, by names below ``encoder/``.

    Its format: numbers are little endian; a name is its length and characters; a variable is a name, the
    number of its dimensions, those, a type, its bytes and the values.

    Raises: SetupError when the file is of another kind, or lacks a layer.
    """
    wanted = tuple(f"layer_{number}/" for number in range(layers))
    found: dict[str, Tensor] = {}
    try:
        (version,) = _numbers(file, "<I")
        if version != _FORMAT:
            raise ValueError(f"format {version}")
        _name(file)
        _, count = _numbers(file, "<II")
        for _ in range(count):
            name = _name(file)
            (rank,) = _numbers(file, "<B")
            *shape, kind, size = _numbers(file, f"<{rank}IBI")
            part = name.removeprefix("encoder/")
            if part == name or (part.startswith("layer_") and not part.startswith(wanted)):
                file.seek(size, 1)
                continue
            content = _bytes(file, size)
            if part == "num_heads":
                found[part] = torch.tensor(int.from_bytes(content, "little"))
            else:
                values = np.frombuffer(content, _DTYPES[kind]).reshape(shape)
                found[part] = torch.from_numpy(values.copy())
        needed = {"num_heads", "conv1/weight", *(f"{layer}ffn/linear_1/bias" for layer in wanted)}
        if not needed <= set(found):
            raise ValueError("it lacks a layer")
    except (ValueError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise SetupError(f"The embedded Whisper can't be read as CTranslate2's: {error}") from error
    return found


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, _bytes(file, struct.calcsize(form)))


def _name(file: BinaryIO) -> str:
    (length,) = _numbers(file, "<H")
    return _bytes(file, length).rstrip(b"\0").decode()


def _bytes(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise ValueError("it ends too early")
    return content
