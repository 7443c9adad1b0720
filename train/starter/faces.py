"""Train the face network of the starter bundle on FER2013.

Goodfellow et al., "Challenges in Representation Learning: A report on three machine
learning contests", ICONIP 2013. The public test set is for the report only; training
pictures identical to one of it, repeated ones and flat ones are dropped first.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.optim import swa_utils
from tqdm import tqdm

from annotator.encode.face import CROP_PX, FaceNet, FaceNetConfig, standardise
from annotator.encode.precision import mixed_precision
from annotator.files import written_whole
from train.resume import fingerprint, load_state, save_state

# FER2013's order -> MELD's seven, the label set of the bundle.
FER_LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
FER_TO_MELD = np.array([6, 5, 2, 4, 3, 1, 0])
assert CROP_PX == 48, "FER2013's pictures are 48 x 48: another crop size needs other data"
DEV_SHARE = 0.05  # of the training pictures, for calibration and choice


@dataclass(frozen=True)
class FaceSplits:
    """Grey crops ``(n, 48, 48)`` uint8 and labels ``(n,)`` in MELD's order."""

    train: tuple[NDArray[np.uint8], NDArray[np.int64]]
    dev: tuple[NDArray[np.uint8], NDArray[np.int64]]
    test: tuple[NDArray[np.uint8], NDArray[np.int64]]
    dropped: int


def load_fer2013(path: Path, seed: int = 0) -> FaceSplits:
    """Read ``fer2013.parquet``, drop duplicates and flat pictures, set a dev part aside.

    Of pictures that repeat with different labels every copy is dropped: nobody knows
    which label is right.
    """
    table = pq.read_table(path).to_pydict()
    images = np.stack([np.asarray(Image.open(io.BytesIO(b))) for b in table["jpeg"]])
    labels = FER_TO_MELD[np.asarray(table["label"], np.int64)]
    is_test = np.asarray(table["split"]) == "val"

    test_keys = {images[i].tobytes() for i in np.flatnonzero(is_test)}
    groups: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(~is_test):
        groups.setdefault(images[i].tobytes(), []).append(int(i))
    keep = [
        members[0]
        for key, members in groups.items()
        if key not in test_keys
        and len({int(labels[m]) for m in members}) == 1
        and images[members[0]].std() >= 5
    ]
    order = np.random.default_rng(seed).permutation(np.asarray(sorted(keep)))
    n_dev = int(len(order) * DEV_SHARE)
    dev, train = order[:n_dev], order[n_dev:]
    test = np.flatnonzero(is_test)
    return FaceSplits(
        (images[train], labels[train]),
        (images[dev], labels[dev]),
        (images[test], labels[test]),
        dropped=int((~is_test).sum()) - len(order),
    )


def augment(crops: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What real crops have and posed ones lack: tilt, offset, blur, compression, gamma, occlusion."""
    n, side = len(crops), int(crops.shape[1])
    out = np.empty_like(crops)
    angles = rng.uniform(-15, 15, n)
    scales = rng.uniform(0.85, 1.15, n)
    shifts = rng.uniform(-0.08, 0.08, (n, 2)) * side
    flips = rng.random(n) < 0.5
    gammas = np.exp(rng.uniform(-0.4, 0.4, n))
    small = np.where(rng.random(n) < 0.25, rng.integers(20, 44, n), side)
    jpeg = np.where(rng.random(n) < 0.15, rng.integers(15, 60, n), 0)
    occlude = rng.random(n) < 0.3
    ramp = np.arange(256) / 255.0
    centre = (side - 1) / 2
    for i in range(n):
        x = crops[i, :, ::-1] if flips[i] else crops[i]
        matrix = cv2.getRotationMatrix2D((centre, centre), angles[i], scales[i])
        matrix[:, 2] += shifts[i]
        x = cv2.warpAffine(np.ascontiguousarray(x), matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
        x = cv2.LUT(x, (255 * ramp ** gammas[i]).astype(np.uint8))
        if small[i] < side:
            x = cv2.resize(x, (int(small[i]),) * 2, interpolation=cv2.INTER_AREA)
            x = cv2.resize(x, (side, side), interpolation=cv2.INTER_LINEAR)
        if jpeg[i]:
            _, coded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(jpeg[i])])
            x = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
        if occlude[i]:
            h, w = rng.integers(side // 8, side // 3, 2)
            top, left = rng.integers(0, side - h), rng.integers(0, side - w)
            x[top : top + h, left : left + w] = rng.integers(0, 256)
        out[i] = x
    return out


@torch.no_grad()
def refresh_batch_norm(net: FaceNet, crops: NDArray[np.uint8], seed: int, batches: int = 40) -> None:
    """Estimate the statistics of batch normalisation anew from training crops, about once each at most.

    Averaged weights give other activations than any of the weights that were averaged: with
    the training's own running statistics 12 points of accuracy are lost.
    """
    layers = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    kept = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
    net.train()
    rng = np.random.default_rng(seed)
    device = next(net.parameters()).device
    for _ in range(min(batches, -(-len(crops) // 128))):
        x = standardise(augment(crops[rng.choice(len(crops), 128)], rng))
        with mixed_precision(device):
            net(torch.from_numpy(x).to(device))
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
    net.eval()


@torch.no_grad()
def face_logits(net: FaceNet, crops: NDArray[np.uint8], batch: int = 256) -> Tensor:
    """Logits ``(n, classes)`` float32 of crops, mean over each crop and its mirror image."""
    net.eval()
    rows = []
    device = next(net.parameters()).device
    for start in range(0, len(crops), batch):
        x = torch.from_numpy(standardise(crops[start : start + batch])).to(device)
        with mixed_precision(device):
            rows.append(((net(x) + net(x.flip(-1))) / 2).float().cpu())
    return torch.cat(rows)


def report(logits: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy and macro recall, fractions."""
    hit = logits.argmax(1).numpy() == labels
    recalls = [hit[labels == c].mean() for c in np.unique(labels)]
    return {"accuracy": float(hit.mean()), "macro_recall": float(np.mean(recalls))}


def train_faces(
    data: Path,
    work: Path,
    *,
    config: FaceNetConfig | None = None,
    epochs: int = 40,
    batch: int = 128,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """Train, resuming from ``work/faces.state.safetensors``, and write ``work/faces.safetensors``.

    Args:
        data: ``fer2013.parquet``.

    Returns: the figures on FER2013's public test set.
    """
    config = config or FaceNetConfig()
    work.mkdir(parents=True, exist_ok=True)
    splits = load_fer2013(data)
    images, labels = splits.train
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    net = FaceNet(config)
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = swa_utils.AveragedModel(
        net,
        multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.998),  # type: ignore[no-untyped-call]
    )
    averaged = cast(FaceNet, average.module)
    steps = -(-len(images) // batch)
    optimizer = torch.optim.SGD(
        net.parameters(), learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, epochs=epochs, steps_per_epoch=steps, pct_start=0.1, cycle_momentum=False
    )
    counts = np.bincount(labels, minlength=config.classes)
    # Half-way between plain and balanced: disgust is 1 picture in 66.
    weights = torch.tensor((counts.mean() / np.maximum(counts, 1)) ** 0.5, dtype=torch.float32, device=device)

    state_file = work / "faces.state.safetensors"
    done = 0
    asked = fingerprint(images, labels, config, [epochs, batch, learning_rate, seed])
    state = load_state(state_file, asked)
    if state is not None:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = int(state["epoch"])
    for epoch in range(done, epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(images))
        net.train()
        total = 0.0
        for step in tqdm(range(steps), desc=f"faces {epoch + 1}/{epochs}", leave=False, disable=None):
            rows = order[step * batch : (step + 1) * batch]
            x = torch.from_numpy(standardise(augment(images[rows], rng))).to(device)
            y = torch.from_numpy(labels[rows]).to(device)
            with mixed_precision(device):
                loss = F.cross_entropy(net(x), y, weight=weights, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            total += loss.item()
        save_state(
            state_file,
            {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": {k: v for k, v in schedule.state_dict().items() if not k.startswith("_")}
                | {"_step_count": schedule.state_dict()["_step_count"], "_last_lr": schedule.get_last_lr()},
                "epoch": epoch + 1,
            },
            asked,
        )
        refresh_batch_norm(averaged, images, seed)
        dev = report(face_logits(averaged, splits.dev[0]), splits.dev[1])
        with (work / "faces.log.jsonl").open("a") as log:
            print(json.dumps({"epoch": epoch + 1, "loss": total / steps, **dev}), file=log)
    refresh_batch_norm(averaged, images, seed)
    trained = {name: value.contiguous() for name, value in averaged.state_dict().items()}
    with written_whole(work / "faces.safetensors") as temporary:
        save_file(trained, temporary, metadata={"config": json.dumps(config.as_json())})
    return report(face_logits(averaged, splits.test[0]), splits.test[1])
