"""Faces: find them in the sampled frames, follow them, and choose the speaker's.

    frames -> FaceTracker -> FaceTracks;  FaceTracks + utterances + sound -> choose -> crops

A detector looks now and then, a correlation tracker follows in between, a shot change
cuts everything. Tracks that look alike become one person, and one assignment over the
whole recording says which person is which speaker.
"""

from .detect import DETECTORS, FaceSettings, make_detector  # noqa: TID251 - its own package
from .speaker import choose  # noqa: TID251 - its own package
from .track import FaceTracker  # noqa: TID251 - its own package

__all__ = ["DETECTORS", "FaceSettings", "FaceTracker", "choose", "make_detector"]
