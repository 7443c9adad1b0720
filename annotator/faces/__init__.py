"""Faces: find them in the sampled frames, follow them, and choose the speaker's.

    frames -> FaceTracker -> FaceTracks;  FaceTracks + utterances + sound -> choose -> SpeakerFaces

A detector looks now and then, on the frames between two detections a face is on the way from
one to the other, and a cut ends every track. Tracks that look alike become one person. What
mouths do in an utterance and in the rest of the recording says who in view is the speaker.
"""

from .detect import DETECTORS, FaceSettings, make_detector, missing
from .speaker import SpeakerFaces, choose
from .track import FaceTracker

__all__ = ["DETECTORS", "FaceSettings", "FaceTracker", "SpeakerFaces", "choose", "make_detector", "missing"]
