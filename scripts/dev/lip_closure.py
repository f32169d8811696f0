"""Lip closure: how often a talker shuts its mouth for the p, b and m of `speech.wav`.

The sample's driving speech is synthesised again for the times of its phonemes (the extra
`[sample]`). The talker speaks the recording that is shipped, and MediaPipe's landmarks measure the
mouth in the rendered frames. `python -m gaussiantalker_ns.scripts.dev.lip_closure` takes the sample
presenter, whose size makes millimetres of them; other talkers are given its eye distance.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from rich.console import Console

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.inference.stream.latency import LatencyConfig
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.metrics.face_motion import FaceTrack, landmarker, only_face
from gaussiantalker_ns.scripts.dev.make_sample import SampleConfig, speak
from gaussiantalker_ns.timebase import FPS

BILABIALS = ("p", "b", "m")
EYE_CORNERS = (33, 263)
CLOSED_MM = 1.5
"""Lips that are nearer than this count as closed."""


@dataclass
class Config:
    """Print how many of the p, b and m of speech.wav are closed."""

    talker: Path | None = None
    """A talker or run; None takes the sample presenter."""


def bilabials() -> list[tuple[float, float]]:
    """Start and end of every p, b and m of speech.wav in seconds."""
    driving, _ = speak(SampleConfig())
    return [(p.start, p.end) for p in driving.phonemes if p.symbol.startswith(BILABIALS)]


def openings_mm(
    talker: Talker, latency: LatencyConfig | str = "quality"
) -> Float[np.ndarray, " m"]:
    """Mouth opening of the frames in which a talker speaks speech.wav."""
    with np.load(asset_path("sample/truth.npz")) as truth:
        first, second = truth["landmark_rest"][list(EYE_CORNERS)]
    eye_distance_mm = 1000 * float(np.linalg.norm(first - second))
    track = FaceTrack()
    with landmarker() as finder:
        speech = read_audio(asset_path("sample/speech.wav"))
        frames = talker.render(speech, latency=latency)
        for number, frame in enumerate(frames):
            track.add(number, only_face(finder, frame))
    return track.opening * eye_distance_mm


def smallest_in(opening: Float[np.ndarray, " m"], spoken: list[tuple[float, float]]) -> np.ndarray:
    """The smallest opening within every interval of seconds, its border frames included."""
    found = []
    for start, end in spoken:
        first, last = int(start * FPS), int(np.ceil(end * FPS))
        found.append(np.nanmin(opening[first : max(last, first + 1)]))
    return np.array(found)


def main(config: Config) -> None:
    """Print the figures."""
    opening = openings_mm(Talker.load(config.talker))
    smallest = smallest_in(opening, bilabials())
    count = int((smallest < CLOSED_MM).sum())
    Console().print(
        f"{count} of {len(smallest)} closed (nearer than {CLOSED_MM} mm); smallest openings, mm: "
        + ", ".join(f"{value:.1f}" for value in smallest)
        + f"; over all frames: median {np.nanmedian(opening):.1f},"
        f" 95th percentile {np.nanpercentile(opening, 95):.1f}"
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
