"""The two networks of the embedded diarizer, both read from plain tensors beside this file.

    SpeakerActivity   who of up to three speaks in ten seconds: PyanNet with the powerset loss (Plaquet and
                      Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization",
                      Interspeech 2023, arXiv:2310.13025), weights of pyannote/segmentation-3.0 (MIT)
    VoiceEncoder      CAM++ speaker embedding (Wang et al., Interspeech 2023, arXiv:2303.00332), weights of
                      3D-Speaker, trained on 200,000 Chinese and English speakers (Apache-2.0)

Both are written here as plain PyTorch, for inference only: importing pyannote.audio takes ten seconds.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

RATE_HZ = 16_000
HOP = 160  # samples of a frame of 10 ms
WINDOW = 400  # samples of a frame that mel energies are taken from (25 ms)
MEL_BANDS = 80
EMBEDDING = 192  # length of a speaker embedding

ACTIVITY_S = 10.0  # the sound that SpeakerActivity was trained to see at once
ACTIVITY_START_S, ACTIVITY_STEP_S = 0.03097, 0.016875  # middle of its first frame, distance of frames
# Its classes: nobody, one of three, two of them.
POWERSET = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))


class SpeakerActivity(nn.Module):
    """Log-probabilities of the classes of ``POWERSET`` in each frame of windows of ten seconds.

    Band-pass filters with learnt edges (SincNet), two convolutions, four bidirectional LSTM layers.
    Which voice is first, second or third has no meaning beyond one window.

    Shapes: samples (n, 160000) -> (n, 589, 7).
    """

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.InstanceNorm1d(1, affine=True)
        self.filters = nn.Conv1d(1, 80, kernel_size=251, stride=10, bias=False)
        self.convolutions = nn.ModuleList([nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norms = nn.ModuleList([nn.InstanceNorm1d(width, affine=True) for width in (80, 60, 60)])
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, len(POWERSET))

    @classmethod
    def load(cls, path: Path) -> SpeakerActivity:
        """Reads the tensors under pyannote's names."""
        stored = load_file(path)
        bank = "sincnet.conv1d.0.filterbank."
        named = {"filters.weight": band_filters(stored[f"{bank}low_hz_"], stored[f"{bank}band_hz_"])}
        renamed = {
            "sincnet.wav_norm1d.": "level.",
            "sincnet.norm1d.": "norms.",
            "sincnet.conv1d.1.": "convolutions.0.",
            "sincnet.conv1d.2.": "convolutions.1.",
        }
        for key, value in stored.items():
            if not key.startswith(bank):
                old = next((prefix for prefix in renamed if key.startswith(prefix)), "")
                named[renamed.get(old, "") + key.removeprefix(old)] = value
        network = cls()
        network.load_state_dict(named)
        return network.eval().requires_grad_(False)

    def forward(self, samples: Tensor) -> Tensor:
        x = self.filters(self.level(samples[:, None])).abs()
        x = F.leaky_relu(self.norms[0](F.max_pool1d(x, 3)))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = F.leaky_relu(norm(F.max_pool1d(convolution(x), 3)))
        x, _ = self.lstm(x.transpose(1, 2))
        for layer in self.linear:
            x = F.leaky_relu(layer(x))
        chances: Tensor = self.classifier(x).log_softmax(dim=-1)
        return chances


def band_filters(low_hz: Tensor, band_hz: Tensor) -> Tensor:
    """Windowed band-pass filters from their lower edges and widths, even ones first, then odd ones.

    Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018, arXiv:1808.00158,
    with the odd filters of Pariente et al., ICASSP 2020, arXiv:1910.10400. No band starts or ends within
    50 Hz of another edge or of zero.

    Shapes: (40, 1), (40, 1) -> (80, 1, 251).
    """
    low = 50.0 + low_hz.abs()
    high = (low + 50.0 + band_hz.abs()).clamp(50.0, RATE_HZ / 2)
    time = torch.arange(1, 126) / RATE_HZ
    window = torch.hamming_window(251, periodic=False)[126:]
    phase_low, phase_high = 2 * math.pi * low * time, 2 * math.pi * high * time  # (40, 125)
    scale = window / (math.pi * time * 2 * (high - low))
    even = (phase_high.sin() - phase_low.sin()) * scale
    odd = (phase_low.cos() - phase_high.cos()) * scale
    middle = torch.ones_like(low)
    return torch.cat(
        [
            torch.cat([even.flip(1), middle, even], dim=1),
            torch.cat([-odd.flip(1), 0 * middle, odd], dim=1),
        ]
    )[:, None]


class VoiceEncoder(nn.Module):
    """A voice as a vector of length 192; the same voice gives vectors of near directions.

    Convolutions over time and frequency, then densely connected ones over time, each gated by the mean of
    the whole stretch and of each second of it; mean and deviation over time; a linear layer.

    Shapes: log mel energies, of mean zero over time (n, frames, 80) -> (n, 192).
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = _Spectrum()
        layers: list[tuple[str, nn.Module]] = []
        tdnn = nn.Conv1d(320, 128, 5, stride=2, padding=2, bias=False)
        layers.append(("tdnn", nn.Sequential(OrderedDict(linear=tdnn, nonlinear=_normed(128)))))
        width = 128
        for number, (count, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
            layers.append((f"block{number}", _Block(width, count, dilation)))
            width += count * _GROWTH
            halved = nn.Conv1d(width, width // 2, 1, bias=False)
            layers.append(
                (f"transit{number}", nn.Sequential(OrderedDict(nonlinear=_normed(width), linear=halved)))
            )
            width //= 2
        layers += [("out_nonlinear", _normed(width)), ("stats", _Statistics())]
        dense = nn.Conv1d(2 * width, EMBEDDING, 1, bias=False)
        norm = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(EMBEDDING, affine=False)))
        layers.append(("dense", nn.Sequential(OrderedDict(linear=dense, nonlinear=norm))))
        self.xvector = nn.Sequential(OrderedDict(layers))

    @classmethod
    def load(cls, path: Path) -> VoiceEncoder:
        """Reads the tensors under 3D-Speaker's names."""
        network = cls()
        network.load_state_dict(load_file(path))
        return network.eval().requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        found: Tensor = self.xvector(self.head(mel.transpose(1, 2)))
        return found[:, :, 0]


_GROWTH, _BOTTLENECK = 32, 128
_CONTEXT = 100  # frames of 20 ms whose mean gates them


def _normed(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(width), relu=nn.ReLU()))


class _Residual(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(32, 32, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(32, 32, 1, stride=(stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(32))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return F.relu(y + self.shortcut(x))


class _Spectrum(nn.Module):
    """(n, 80, frames) -> (n, 32 * 10, frames)"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(_Residual(2), _Residual(1))
        self.layer2 = nn.Sequential(_Residual(2), _Residual(1))
        self.conv2 = nn.Conv2d(32, 32, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.bn1(self.conv1(mel[:, None])).relu()
        found: Tensor = self.bn2(self.conv2(self.layer2(self.layer1(x)))).relu()
        return found.flatten(1, 2)


class _Gated(nn.Module):
    """A convolution over time, each channel of it weighed by what the stretch and its second sound like."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            _BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = F.avg_pool1d(x, _CONTEXT, ceil_mode=True)
        near = parts.repeat_interleave(_CONTEXT, dim=2)[:, :, : x.shape[2]]
        context = x.mean(dim=2, keepdim=True) + near
        gate: Tensor = self.linear2(self.linear1(context).relu()).sigmoid()
        local: Tensor = self.linear_local(x)
        return gate * local


class _Layer(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normed(width)
        self.linear1 = nn.Conv1d(width, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _normed(_BOTTLENECK)
        self.cam_layer = _Gated(dilation)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return found


class _Block(nn.Module):
    """Layers that each see the channels of all before them and add ``_GROWTH``."""

    def __init__(self, width: int, count: int, dilation: int) -> None:
        super().__init__()
        for number in range(count):
            self.add_module(f"tdnnd{number + 1}", _Layer(width + number * _GROWTH, dilation))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class _Statistics(nn.Module):
    """(n, width, frames) -> (n, 2 * width, 1)"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)[:, :, None]


MEL_FLOOR = 5e-4  # deviation of white noise that counts as silence: 46 dB under speech at -20 dB


def mel_energies(samples: Tensor) -> Tensor:
    """Logarithm of mel energies as Kaldi computes them, frames of 25 ms every 10 ms, over a floor.

    Above the band of a telephone there is nothing but rounding, whose logarithm is as lively as speech and
    unlike all that the network has learnt from. With the energy of a soft white noise added it is constant.

    Shapes: (samples,) in -1 to 1, at least 400 -> ((samples - 400) // 160 + 1, 80).
    """
    from torchaudio.compliance.kaldi import fbank

    energies: Tensor = fbank(samples[None], num_mel_bins=MEL_BANDS, dither=0.0, sample_frequency=RATE_HZ)
    return torch.logaddexp(energies, _floor().to(energies.device))


@functools.cache
def _floor() -> Tensor:
    """Logarithm of the mel energies of that noise. (80,)"""
    from torchaudio.compliance.kaldi import fbank

    noise = torch.randn(RATE_HZ * 10, generator=torch.Generator().manual_seed(0)) * MEL_FLOOR
    energies: Tensor = fbank(noise[None], num_mel_bins=MEL_BANDS, dither=0.0, sample_frequency=RATE_HZ)
    return energies.exp().mean(dim=0).log()
