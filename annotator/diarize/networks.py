"""The two small networks of the embedded diarizer, both read from plain tensors in installed wheels.

    SpeechDetector   Silero VAD (Silero Team, 2021), weights of the silero_vad wheel (safetensors)
    VoiceEncoder     GE2E speaker embedding (Wan et al., "Generalized end-to-end loss for speaker
                     verification", ICASSP 2018, arXiv:1710.10467), weights of the resemblyzer wheel

Both are written here as plain PyTorch: neither package is imported (resemblyzer can't be without a
compiled webrtcvad), and the frames of a block are computed at once instead of in a Python loop.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE_HZ = 16_000

SPEECH_HOP = 512  # samples a frame of speech probability (32 ms)
SPEECH_CONTEXT = 64  # samples of the frame before that each frame sees
FRAMES_PER_S = RATE_HZ / SPEECH_HOP

MEL_HOP = 160  # samples (10 ms)
MEL_WINDOW = 400  # samples (25 ms)
MEL_BANDS = 40
EMBEDDING = 256  # length of a speaker embedding


class SpeechDetector(nn.Module):
    """Probability of speech in each 32 ms of 16 kHz sound.

    A short-time Fourier transform, four convolutions, one LSTM. All but the LSTM looks at one frame
    (and the 4 ms before it) only, so a block of frames is one batch; the LSTM then runs over it.

    Shapes: samples (n_frames * 512,), context (64,) -> probabilities (n_frames,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, kernel_size=256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, kernel_size=3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, kernel_size=3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, kernel_size=1)

    @classmethod
    def load(cls, path: Path) -> SpeechDetector:
        """Reads the safetensors file of the wheel, whose LSTM is stored as a single cell."""
        from safetensors.torch import load_file

        network = cls()
        names = {f"lstm_cell.{kind}": f"lstm.{kind}_l0" for kind in
                 ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}  # fmt: skip
        network.load_state_dict({names.get(key, key): value for key, value in load_file(path).items()})
        return network.eval().requires_grad_(False)

    def forward(
        self, samples: Tensor, context: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        frames = samples.view(-1, SPEECH_HOP)  # (n, 512)
        before = torch.cat([context[None], frames[:-1, -SPEECH_CONTEXT:]])  # (n, 64)
        x = F.pad(torch.cat([before, frames], dim=1), (0, 64), mode="reflect")[:, None]  # (n, 1, 640)
        x = self.stft_conv(x)  # (n, 258, 4): real and imaginary parts
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()  # ends as (n, 128, 1)
        x, state = self.lstm(x.transpose(1, 2).transpose(0, 1)[0][:, None], state)  # (n, 1, 128)
        return self.final_conv(x.relu()[:, 0, :, None]).sigmoid()[:, 0, 0], state


class VoiceEncoder(nn.Module):
    """A voice as a vector of length 256, norm 1, no negative entries; the same voice gives near vectors.

    Shapes: mel power (n, frames, 40) -> (n, 256).
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MEL_BANDS, EMBEDDING, num_layers=3, batch_first=True)
        self.linear = nn.Linear(EMBEDDING, EMBEDDING)

    @classmethod
    def load(cls, path: Path) -> VoiceEncoder:
        """Reads the tensors of resemblyzer's file (``weights_only``: no code in it is run)."""
        stored = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        network = cls()
        network.load_state_dict({key: stored[key] for key in network.state_dict()})
        return network.eval().requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mel)
        # The small number keeps a window of digital silence from dividing by zero.
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1, eps=1e-5)


def mel_filters() -> Tensor:
    """Slaney's triangular filters with unit area, 0 to 8 kHz, as GE2E was trained with. (201, 40)"""
    from torchaudio.functional import melscale_fbanks

    return torch.as_tensor(
        melscale_fbanks(MEL_WINDOW // 2 + 1, 0.0, RATE_HZ / 2, MEL_BANDS, RATE_HZ, "slaney", "slaney")
    )


def mel_power(samples: Tensor, filters: Tensor) -> Tensor:
    """Mel power spectrum (not logarithmic) of frames of 25 ms every 10 ms.

    Frame i covers samples i*160 to i*160 + 400: pad by 200 in front to centre it on i*160.

    Shapes: (n,), (201, 40) -> ((n - 400) // 160 + 1, 40).
    """
    window = torch.hann_window(MEL_WINDOW, device=samples.device)
    spectrum = torch.stft(
        samples, MEL_WINDOW, MEL_HOP, window=window, center=False, onesided=True, return_complex=True
    )  # (201, frames)
    return (spectrum.abs() ** 2).T @ filters
