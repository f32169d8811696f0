"""`python -m gaussiantalker_ns.scripts.dev.make_sample`: render the synthetic presenter.

Writes `presenter.mp4` (a talking head with sound), `speech.wav` (another text in another voice, for
driving) and `truth.npz` (exact pose, camera, face weights and landmarks of every frame). Needs the
extra `[sample]`. The clip that ships with the package was made by this script with its defaults.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

if TYPE_CHECKING:
    from gaussiantalker_ns.scripts.dev.sample.speech import Speech

PRESENTER_TEXT = """
Hello, and welcome! My name is Robin, and I am a free sample.
Nobody ever filmed me. Every freckle, every blink, and every word comes out of a small program.
So please, borrow my face for any purpose you like.
Now watch my lips. Bob the baker put a big blue pumpkin pie above the warm oven, \
and five very fine foxes voted for mushroom soup.
We know where I look, how wide my mouth opens, and when my eyes shut.
That makes me a good measure for your own work.
Who would have thought that numbers could be such good company?
Now it is your turn. Give me a voice, and I will move with it.
"""

DRIVING_TEXT = """
Good morning! This voice was never part of my lessons, but my mouth should follow every bit of it. \
Impressive, maybe?
"""


@dataclass
class SampleConfig:
    """Settings of the sample clip."""

    output_dir: Path = Path("outputs/sample")
    """Folder for presenter.mp4, speech.wav and truth.npz; made if missing."""
    seconds: float = 40.0
    """Length of the clip; the text is repeated or cut to fit, above 0.2."""
    size: int = 512
    """Width and height in pixels; even, at least 64."""
    seed: int = 0
    """Seed of head motion, gaze and blinks; the character itself never changes."""
    voice: str = "en-us"
    """espeak-ng voice of the clip, for example en or en-us+f3."""
    words_per_minute: int = 157
    """Speaking rate of the clip, 80 to 300."""
    driving_voice: str = "en+f2"
    """espeak-ng voice of speech.wav."""
    supersampling: int = 3
    """Samples per pixel and axis; 1 is fast and jagged."""
    workers: int = 2
    """Processes that render; the frames do not depend on it."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        if self.size < 64 or self.size % 2:
            raise ValueError(
                f"`--size` is {self.size}; expected an even number of at least 64, because H.264 "
                "halves the colour resolution. Give for example `--size 256`."
            )
        if self.seconds <= 0.2:
            raise ValueError(
                f"`--seconds` is {self.seconds}; expected more than 0.2. Give for example "
                "`--seconds 2`."
            )


def speak(config: SampleConfig) -> "tuple[Speech, Speech]":
    """Return the driving speech, and the clip's, repeated or cut to the wanted length."""
    from gaussiantalker_ns.scripts.dev.sample.speech import (
        Phoneme,
        Speech,
        Utterance,
        Voice,
        record,
    )

    driving_voice = Voice(config.driving_voice, 165, pitch=55)
    voice = Voice(config.voice, config.words_per_minute)
    driving, once = record(
        [
            Utterance(DRIVING_TEXT, driving_voice, lead_in=0.25, tail=0.35),
            Utterance(PRESENTER_TEXT, voice, lead_in=0.4, tail=0.6),
        ]
    )
    rounds = int(np.ceil(config.seconds / once.duration))
    phonemes = [
        Phoneme(p.symbol, p.start + k * once.duration, p.end + k * once.duration, p.stress)
        for k in range(rounds)
        for p in once.phonemes
    ]
    whole = Speech(np.tile(once.samples, rounds), once.sample_rate_hz, phonemes)
    return driving, whole.cut(config.seconds)


def main(config: SampleConfig) -> None:
    """Make the sample."""
    from nerfstudio.utils.rich_utils import CONSOLE
    from rich.progress import track

    from gaussiantalker_ns.scripts.dev.sample import clip as clips
    from gaussiantalker_ns.scripts.dev.sample import encode
    from gaussiantalker_ns.scripts.dev.sample.character import build_character

    began = time.time()
    config.output_dir.mkdir(parents=True, exist_ok=True)
    driving, speech = speak(config)
    samples = encode.resample(driving.samples, driving.sample_rate_hz, 16000)
    encode.write_wav(config.output_dir / "speech.wav", samples, 16000)
    CONSOLE.print(f"{speech.duration:.1f} s of speech. Building the head ...")
    character = build_character()
    clip = clips.compose(speech, config.size, config.seed, character.neck_pivot)

    def progress(pictures):
        return track(pictures, "Rendering", total=len(clip.poses), console=CONSOLE)

    result = clips.make_clip(
        character, clip, config.output_dir, config.supersampling, config.workers, progress
    )
    for name in ("presenter.mp4", "speech.wav", "truth.npz"):
        path = config.output_dir / name
        CONSOLE.print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    CONSOLE.print(
        f"{len(clip.poses)} frames in {time.time() - began:.0f} s; "
        f"digest of the frames {str(result.frames_sha256)[:16]}."
    )


if __name__ == "__main__":
    main(tyro.cli(Annotated[SampleConfig, tyro.conf.arg(name="")], description=__doc__))
