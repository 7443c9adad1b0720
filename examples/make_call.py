"""Makes ``recordings/call.m4a``: two synthetic voices on the telephone, without a transcript.

What they say is the recogniser's work, who speaks the diarizer's.

    python -m examples.make_call
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from examples.speech import Line, Voice, ffmpeg, mix, perform, write_wav

RECORDINGS = Path(__file__).resolve().parent / "recordings"

VOICES = {
    "Dora": Voice("en-us+steph", pitch=52, speed_wpm=168, size=1.0, seed=4),
    "Emil": Voice("en-gb+m7", pitch=22, speed_wpm=166, size=1.14, seed=5),
}

LINES = (
    Line("Dora", "neutral", "Good afternoon, this is the service desk. How can I help you?"),
    Line("Emil", "anger", "My parcel is lost again! This is the third time, and nobody cares!"),
    Line("Dora", "sadness", "I am very sorry about that. Can you tell me the number, please?"),
    Line("Emil", "neutral", "It begins with seven, and the letters after that are on the label."),
    Line("Dora", "surprise", "Oh, I can see it here! It has been at your neighbour's since Monday!"),
    Line("Emil", "joy", "Really? That is wonderful news! Thank you so much for your help!"),
)


def main() -> None:
    """Writes the recording."""
    spoken = perform(LINES, VOICES, start=0.6)
    sound = mix(spoken, VOICES, duration_s=spoken[-1].end + 0.6, decay_s=0.1)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "call.wav"
        write_wav(wav, sound)
        line = ("-af", "highpass=f=300,lowpass=f=3400", "-ar", "16000", "-ac", "1")
        encoding = ("-c:a", "aac", "-b:a", "32k", "-movflags", "+faststart")
        ffmpeg(["-i", wav], [*line, *encoding, RECORDINGS / "call.m4a"])


if __name__ == "__main__":
    main()
