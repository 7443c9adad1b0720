"""The voice of the starter bundle: open emotional speech to a model of scores that ships.

channel.py    a recording as another voice, microphone, room and codec would give it
clips.py      the corpora through the encoder that a run uses, clean, through channels, cut short
fit.py        features to linear scores, and what is normal among those
moods.py      made recordings of all moods, of one and of hardly any, and the gate that learns from them
scores.py     the model that ships, and those that have not heard a speaker or a corpus
figures.py    how good they are
"""

from train.starter.voice.channel import Channel, coded, draw_channel, through
from train.starter.voice.clips import LEARNED, TESTED, TO_MELD, Voices, load_voices
from train.starter.voice.figures import across_corpora, short_turns, voice_figures
from train.starter.voice.scores import fit_voice, turn_scores, unseen_scores, without_corpus

__all__ = [
    "LEARNED",
    "TESTED",
    "TO_MELD",
    "Channel",
    "Voices",
    "across_corpora",
    "coded",
    "draw_channel",
    "fit_voice",
    "load_voices",
    "short_turns",
    "through",
    "turn_scores",
    "unseen_scores",
    "voice_figures",
    "without_corpus",
]
