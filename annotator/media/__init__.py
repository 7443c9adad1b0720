"""Find, probe and decode recordings. The only caller of ffmpeg, which runs in a sandboxed child process.

find.py       recordings in files and folders, their names in the table, what lies beside them
probe.py      what is in a recording
decode.py     a pass each: sound to a file, pictures to a function; subtitle streams
sound.py      float samples to 16-bit mono, and what is wrong with them
child.py      the ffmpeg process: which, with what limits, how its pipes are read
sandbox.py    the launcher that gives up its rights and becomes ffmpeg
streams.py    which sound stream is heard
"""

from annotator.media.child import Ended, Limits, ffmpeg_path, ffmpeg_version, sandbox_lacks
from annotator.media.decode import (
    Decoded,
    Heard,
    Watched,
    decode,
    extract_subtitles,
    hear,
    together,
    watch,
)
from annotator.media.find import (
    MEDIA_SUFFIXES,
    Found,
    PassedOver,
    common_folder,
    content_hash,
    find,
    look_through,
    printable,
    same,
    sidecars,
    stamps,
)
from annotator.media.probe import probe
from annotator.media.sandbox import landlock_abi
from annotator.media.streams import described, in_order
from annotator.terminal import escaped

__all__ = [
    "MEDIA_SUFFIXES",
    "Decoded",
    "Ended",
    "Found",
    "Heard",
    "Limits",
    "PassedOver",
    "Watched",
    "content_hash",
    "decode",
    "described",
    "escaped",
    "extract_subtitles",
    "ffmpeg_path",
    "ffmpeg_version",
    "common_folder",
    "find",
    "hear",
    "in_order",
    "landlock_abi",
    "look_through",
    "printable",
    "probe",
    "same",
    "sandbox_lacks",
    "sidecars",
    "stamps",
    "together",
    "watch",
]
