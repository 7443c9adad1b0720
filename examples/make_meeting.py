"""Makes ``recordings/meeting.m4a`` and its subtitles: three synthetic voices at a table, all seven emotions.

The cues name nobody: to find the three speakers is the diarizer's work.

    python -m examples.make_meeting
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from examples.speech import Line, Voice, ffmpeg, mix, perform, subrip, write_wav

RECORDINGS = Path(__file__).resolve().parent / "recordings"

VOICES = {
    "Ana": Voice("en-us+steph", pitch=50, speed_wpm=172, size=1.0, seed=1),
    "Bruno": Voice("en-gb+m7", pitch=22, speed_wpm=178, size=1.14, seed=2),
    "Carl": Voice("en-us+robert", pitch=52, speed_wpm=176, size=1.0, seed=3),
}

LINES = (
    Line("Ana", "neutral", "Good morning. We start with the release, and then the plan for next month."),
    Line("Bruno", "joy", "I have wonderful news! Our first customer signed the contract last night!"),
    Line("Carl", "surprise", "Wow, really? Last week they told us they would never buy it!", 0.3),
    Line("Ana", "joy", "That is fantastic! I am so proud of this team, congratulations!"),
    Line(
        "Carl", "neutral", "The release is on the server. The tests ran for two hours, and they all passed."
    ),
    Line(
        "Bruno", "anger", "No, they did not! Somebody deleted my data again, and nobody even asked me!", -0.3
    ),
    Line("Ana", "surprise", "What? All of your recordings are gone? How is that possible?", 0.3),
    Line("Bruno", "anger", "I am sick of this! Three weeks of work, thrown away without a word!"),
    Line("Carl", "fear", "I am worried that it was my script. I am afraid it removed the backup too.", 0.7),
    Line("Ana", "neutral", "Please check the backup before noon, and write down what you find."),
    Line("Carl", "sadness", "I am really sorry. I feel awful, I have let you all down.", 0.6),
    Line("Bruno", "sadness", "It hurts, honestly. Those interviews can never be repeated.", 0.6),
    Line("Ana", "disgust", "And the fridge in the kitchen stinks. The old milk is green, it is revolting."),
    Line("Bruno", "disgust", "Yuck, I opened it yesterday. That smell was disgusting, it made me sick."),
    Line("Carl", "surprise", "Oh my God, wait, look at this! The backup is here, nothing is lost!", 0.3),
    Line("Bruno", "joy", "Are you serious? Oh, thank you, thank you! That makes me so happy!", 0.3),
    Line("Ana", "joy", "What a relief! Lunch is on me today, for everybody in this room!"),
    Line("Carl", "joy", "Great, I am so glad! I will even clean that horrible fridge!"),
    Line("Bruno", "neutral", "The next meeting is on Tuesday at ten, in the small room upstairs."),
    Line("Ana", "neutral", "I will send the notes this afternoon. Thank you all, and goodbye."),
)


def main() -> None:
    """Writes the recording and the subtitles beside it."""
    spoken = perform(LINES, VOICES, start=0.8)
    sound = mix(spoken, VOICES, duration_s=spoken[-1].end + 0.8, decay_s=0.35)
    RECORDINGS.mkdir(exist_ok=True)
    (RECORDINGS / "meeting.srt").write_text(subrip(spoken, with_names=False), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "meeting.wav"
        write_wav(wav, sound)
        encoding = ("-c:a", "aac", "-b:a", "48k", "-movflags", "+faststart")
        ffmpeg(["-i", wav], [*encoding, RECORDINGS / "meeting.m4a"])


if __name__ == "__main__":
    main()
