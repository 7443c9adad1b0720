"""The voice of the starter bundle: open acted speech to classifiers of emotion that ship.

channel.py    a recording as another voice, microphone, room and codec would give it
clips.py      RAVDESS and EmoDB through the encoder that a run uses, clean and through channels
scores.py     functionals to scores of MELD's seven, by folds of speakers
calibrate.py  how sure they may be, and how much less so of turns unlike those of training
figures.py    how good they are on speakers that they have not heard
"""

from train.starter.voice.calibrate import unseen_scores
from train.starter.voice.channel import Channel, coded, draw_channel, through
from train.starter.voice.clips import TO_MELD, Voices, encode_clip, load_voices, trimmed
from train.starter.voice.figures import across_corpora, voice_figures
from train.starter.voice.scores import turn_scores

__all__ = [
    "TO_MELD",
    "Channel",
    "Voices",
    "across_corpora",
    "coded",
    "draw_channel",
    "encode_clip",
    "load_voices",
    "through",
    "trimmed",
    "turn_scores",
    "unseen_scores",
    "voice_figures",
]
