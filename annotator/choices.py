"""The words that an option or a settings key takes, for the help, which imports nothing heavy."""

from __future__ import annotations

from typing import Literal

Diarizer = Literal["auto", "pyannote", "embedded"]
Transcriber = Literal["auto", "subtitles", "whisper", "none"]
Engine = Literal["local", "ray"]
Channels = Literal["mix", "speakers"]
FaceDetector = Literal["auto", "yunet", "centerface"]
ReviewOrder = Literal["uncertain", "random"]
ExportFormat = Literal[
    "srt", "vtt", "rttm", "textgrid", "eaf", "chat", "label-studio", "audformat", "lhotse", "meld-csv"
]
Part = Literal["yunet", "whisper", "pyannote"]
Source = Literal[
    "meld", "mmeld", "emorynlp", "iemocap", "features", "table", "label-studio", "eaf", "textgrid", "chat"
]
KeptApart = Literal["speaker", "dialogue"]
Preset = Literal["default", "paper"]
TextTraining = Literal["auto", "frozen", "adapter"]
Measure = Literal["weighted_f1", "macro_f1", "accuracy"]
Split = Literal["train", "validation", "test"]

DEVICE = r"auto|cpu|mps|cuda(:\d+)?"  # a regular expression: cuda:N has no end
