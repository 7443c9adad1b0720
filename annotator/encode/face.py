"""Face features: a small DenseNet over 48 x 48 grey crops, pooled over an utterance's frames.

The network is torchvision's DenseNet (Huang et al., "Densely Connected Convolutional
Networks", CVPR 2017) with a stem for small pictures: a 3 x 3 convolution of stride 2
and no max-pooling, since a 48-pixel face has nothing to spare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.densenet import DenseNet

from annotator import plain_json
from annotator.records import Evidence, Features, SetupError, Utterance
from annotator.threads import side_by_side

from .precision import mixed_precision

CROP_PX = 48  # side of a face crop, pixels
MOST = 1024  # of any size of a network: layers of a block, channels, classes
BATCH = 32  # crops of every pass through the network, neither more nor fewer


@dataclass(frozen=True)
class FaceNetConfig:
    """Shape of the face network. Stored beside its weights."""

    growth: int = 32
    blocks: tuple[int, ...] = (4, 6, 8)
    stem: int = 64
    classes: int = 7

    def check(self) -> None:
        """Raises: ValueError for sizes that no face network has."""
        numbers = (self.growth, self.stem, self.classes, *self.blocks)
        if not all(type(n) is int and 0 < n <= MOST for n in numbers) or not 0 < len(self.blocks) <= 8:
            raise ValueError(f"its sizes are not all whole numbers from 1 to {MOST}")

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class FaceNet(nn.Module):
    """DenseNet on standardised grey crops.

    Shapes: ``(n, 48, 48)`` float -> ``features`` ``(n, d)``, ``forward`` ``(n, classes)`` logits.
    """

    def __init__(self, config: FaceNetConfig) -> None:
        super().__init__()
        self.config = config
        self.densenet = DenseNet(
            growth_rate=config.growth,
            block_config=config.blocks,
            num_init_features=config.stem,
            num_classes=config.classes,
        )
        self.densenet.features.conv0 = nn.Conv2d(1, config.stem, 3, stride=2, padding=1, bias=False)
        self.densenet.features.pool0 = nn.Identity()

    @property
    def width(self) -> int:
        """Length of a feature vector, d."""
        return int(self.densenet.classifier.in_features)

    def features(self, crops: Tensor) -> Tensor:
        x = crops[:, None].contiguous(memory_format=torch.channels_last)  # (n, 1, 48, 48)
        x = F.relu(self.densenet.features(x))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)  # (n, d)

    def forward(self, crops: Tensor) -> Tensor:
        logits: Tensor = self.densenet.classifier(self.features(crops))
        return logits


def standardise(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey crops ``(n, h, w)`` 0-255 to zero mean and unit deviation each.

    Removes brightness and contrast of camera and light, which say nothing of the face.
    A flat crop becomes all zeros.
    """
    x = crops.astype(np.float32)
    x -= x.mean(axis=(1, 2), keepdims=True)
    x /= np.maximum(x.std(axis=(1, 2), keepdims=True), 1.0)
    return x


def load_face_net(file: Path, device: str = "cpu") -> FaceNet:
    """The network in a safetensors file whose metadata has its ``config``, ready to run.

    Raises: SetupError when the file is something else.
    """
    try:
        with safe_open(file, "pt") as stored:
            shape = plain_json.loads((stored.metadata() or {})["config"])
            config = FaceNetConfig(**{**shape, "blocks": tuple(shape["blocks"])})
            config.check()
            with torch.device("meta"):  # takes no memory, whatever the sizes
                wanted = {name: list(t.shape) for name, t in FaceNet(config).state_dict().items()}
            if wanted != {name: stored.get_slice(name).get_shape() for name in stored.keys()}:
                raise ValueError("its weights have other names or shapes than its config says")
            weights = {name: stored.get_tensor(name) for name in stored.keys()}
        if not all(t.isfinite().all() for t in weights.values()):
            raise ValueError("its weights are not all finite")
        net = FaceNet(config)
        net.load_state_dict(weights)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{file} holds no face network of this version: {reason}") from error
    return net.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def face_features(net: FaceNet, groups: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Mean feature of each group of crops ``(k_i, 48, 48)``, mirror images included: ``(n, d)``.

    A group without crops has zeros. A group's result is the same to the bit whatever other
    groups are given: batches always have the same size, the last one filled up, so that
    the same kernels run. bf16 where the processor has it (5 times faster on a CPU, features
    0.4% off those in float32), so machines differ by that much.
    """
    device = next(net.parameters()).device
    counts = np.array([len(crops) for crops in groups], np.int64)
    group_of = np.repeat(np.arange(len(groups)), counts)
    sums = np.zeros((len(groups), net.width), np.float64)
    full = [crops for crops in groups if len(crops)]
    crops = np.concatenate(full) if full else np.zeros((0, CROP_PX, CROP_PX), np.uint8)

    def seen(start: int) -> NDArray[np.float32]:
        block = crops[start : start + BATCH]
        padded = np.zeros((BATCH, CROP_PX, CROP_PX), np.float32)
        padded[: len(block)] = standardise(block)
        x = torch.from_numpy(padded).to(device)
        with mixed_precision(device):
            both = [net.features(side).float().cpu().numpy() for side in (x, x.flip(-1))]
        whole: NDArray[np.float32] = (both[0] + both[1])[: len(block)]
        return whole

    starts = range(0, len(crops), BATCH)
    for start, values in zip(starts, side_by_side(seen, starts, device), strict=True):
        np.add.at(sums, group_of[start : start + BATCH], values)
    means: NDArray[np.float32] = (sums / np.maximum(2 * counts, 1)[:, None]).astype(np.float32)
    return means


class FaceEncoder:
    """Mean FaceNet feature of the speaker's face over an utterance.

    Args:
        file: weights, as ``load_face_net`` takes them.

    Raises: SetupError when they don't load.
    """

    modality = "face"
    name = "facenet"

    def __init__(self, file: Path, device: str = "cpu") -> None:
        self._file = file
        self.net = load_face_net(file, device)
        self.width = self.net.width

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"face mean mirror " + self._file.read_bytes()).hexdigest()[:16]

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        groups = evidence.faces
        if groups is None:
            groups = (np.zeros((0, CROP_PX, CROP_PX), np.uint8),) * len(utterances)
        if len(groups) != len(utterances):
            raise ValueError(f"{len(groups)} groups of crops for {len(utterances)} utterances")
        present = np.array([len(crops) > 0 for crops in groups], np.bool_)
        return Features(face_features(self.net, groups), present)
