"""What the latency settings of a stream cost: delay, how well the mouth follows, lips on p, b, m.

The head's mouth opening is read from its deformed Gaussians by a regression that is fitted, with
features of the usual settings, to frames of the training; it is compared on the held-out frames at
the clip's end. Lips are measured as `lip_closure` does it, in another voice's speech (the extra
`[sample]`). `python -m gaussiantalker_ns.scripts.dev.latency_table` takes the sample presenter and
its exact truth; `--talker` and `--data` take another talker and its data set, whose truth are
tracked landmarks.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.audio.silence import frame_powers
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.inference.external_audio import mean_silence_features
from gaussiantalker_ns.inference.feature_stream import FeatureStream
from gaussiantalker_ns.inference.stream.latency import LIVE, QUALITY, LatencyConfig
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.scripts.dev.lip_closure import (
    CLOSED_MM,
    bilabials,
    openings_mm,
    smallest_in,
)
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

SMOOTHING_FRAMES = 0.6
"""The default of `MotionConfig`."""

COMPONENTS, RIDGE = 16, 0.1
"""Principal components of the Gaussians' positions that the regression reads, and its penalty."""

TRAIN_FRACTION = 10 / 11
"""The clip's beginning that trained the head."""

LEAD_FRAMES = 60
"""Frames before the held-out ones whose sound is encoded too."""

ROWS: dict[str, LatencyConfig] = {
    "quality: 8 / 5 / 3 / symmetric, blocks of 4": QUALITY,
    "1 / 2 / 3 / causal": LatencyConfig(1, 2, 3, True, None),
    "2 / 2 / 1 / causal": LatencyConfig(2, 2, 1, True, None),
    "live: 2 / 1 / 1 / causal": LIVE,
    "1 / 1 / 1 / causal": replace(LIVE, hop_frames=1),
    "2 / 1 / 0 / causal": replace(LIVE, attention_ahead_frames=0),
    "2 / 0 / 1 / causal": replace(LIVE, encoder_ahead_frames=0),
}
"""Hop / encoder look-ahead / attention look-ahead / smoothing."""


@dataclass
class Config:
    """Print the table of latency settings."""

    talker: Path | None = None
    """A talker or run; None takes the sample presenter."""
    data: Path | None = None
    """Its data set; None takes the sample's own clip and truth."""


@dataclass
class Clip:
    """The sound and the truth of a clip."""

    samples: Float[np.ndarray, " m"]
    opening: Float[np.ndarray, " n"]
    """Opening of the mouth: millimetres of the sample, else a fraction of the face."""


def sample_clip() -> Clip:
    """The presenter's own clip."""
    with np.load(asset_path("sample/truth.npz")) as truth:
        opening = truth["mouth_opening_mm"].astype(np.float64)
    return Clip(read_audio(asset_path("sample/presenter.mp4")), opening)


def tracked_clip(data: Path) -> Clip:
    """The clip of a data set, with the opening between the inner lips by its landmarks."""
    with np.load(data / "landmarks.npz") as tracked:
        points = tracked["points"].astype(np.float64)
        points[~tracked["valid"]] = np.nan
    gap = np.linalg.norm(points[:, 13] - points[:, 14], axis=1)
    height = np.linalg.norm(points[:, 10] - points[:, 152], axis=1)
    return Clip(read_audio(data / "aud.wav"), gap / height)


class MouthReader:
    """Reads the mouth's opening off the head's Gaussians."""

    def __init__(self, talker: Talker, clip: Clip) -> None:
        self._model = talker.checkpoint.model
        self._clip = clip
        self._gain = speech_gain(clip.samples)
        self.first_held_out = int(len(clip.opening) * TRAIN_FRACTION)
        train = np.arange(8, self.first_held_out, 3)
        positions = self._positions(QUALITY, 0, train)
        self._mean = positions.mean(axis=0)
        _, _, axes = np.linalg.svd(positions - self._mean, full_matrices=False)
        self._axes = axes[:COMPONENTS]
        scores = (positions - self._mean) @ self._axes.T
        self._std = scores.std(axis=0)
        inputs = np.c_[scores / self._std, np.ones(len(scores))]
        target = clip.opening[train]
        good = np.isfinite(target)
        inputs, target = inputs[good], target[good]
        square = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
        self._weights = np.linalg.solve(square, inputs.T @ target)

    def opening(self, latency: LatencyConfig) -> Float[np.ndarray, " m"]:
        """The opening in the held-out frames by a stream with some settings."""
        first = self.first_held_out
        frames = np.arange(first, len(self._clip.opening))
        positions = self._positions(latency, first - LEAD_FRAMES, frames)
        scores = (positions - self._mean) @ self._axes.T / self._std
        return np.c_[scores, np.ones(len(scores))] @ self._weights

    @torch.no_grad()
    def _positions(self, latency: LatencyConfig, begin: int, frames: np.ndarray) -> np.ndarray:
        """Positions of all Gaussians in some frames; sound before `begin` is left out."""
        windows = self._windows(latency, begin)
        bank = self._model.bank
        found = []
        for frame in frames.tolist():
            # Pose and eyes are the same in all frames: what moves is the mouth.
            rest = bank.condition(torch.zeros(1, dtype=torch.long))
            audio = bank.audio_signal(torch.from_numpy(windows[frame - begin][None]))
            condition = FrameCondition(audio, rest.eye, rest.viewpoint)
            found.append(self._model.deformed_gaussians(condition).means.flatten().numpy())
        return np.stack(found)

    def _windows(self, latency: LatencyConfig, begin: int) -> np.ndarray:
        samples = self._clip.samples[begin * SAMPLES_PER_FRAME :]
        bank = self._model.bank
        stream = FeatureStream(
            bank.window_frames,
            mean_silence_features(bank),
            SMOOTHING_FRAMES,
            latency.attention_ahead_frames,
            latency.causal_smoothing,
            latency.gate_ahead_frames,
        )
        encoder = WhisperEncoder(latency.layouts[0])
        rows = encoder.encode(samples, gain=self._gain)
        stream.push_powers(frame_powers(samples * np.float32(self._gain)))
        stream.push_rows(rows)
        stream.end()
        return np.concatenate(list(stream.blocks(len(rows))))


def encoding_ms(latency: LatencyConfig) -> float:
    """Processor time of one window of the encoder, the best of some."""
    encoder = WhisperEncoder(latency.layouts[0])
    window = np.zeros(latency.layouts[0].num_frames * SAMPLES_PER_FRAME, np.float32)
    spent = []
    for _ in range(8):
        began = time.process_time()
        encoder.encode_window(window)
        spent.append(time.process_time() - began)
    return 1000 * min(spent)


def main(config: Config) -> None:
    """Print a row for each setting."""
    talker = Talker.load(config.talker)
    torch.set_num_threads(1)
    clip = sample_clip() if config.data is None else tracked_clip(config.data)
    reader = MouthReader(talker, clip)
    truth = clip.opening[reader.first_held_out :]
    good = np.isfinite(truth)
    table = Table("settings", "delay, ms", "r", "amplitude", "p, b, m closed", "ms a window")
    spoken = bilabials()
    for name, latency in ROWS.items():
        opening = reader.opening(latency)
        stream = talker.stream(latency=latency)
        delay_s = stream.delay_s
        stream.close()
        assert delay_s is not None, "the talker streams"
        smallest = smallest_in(openings_mm(talker, latency), spoken)
        table.add_row(
            name,
            f"{1000 * delay_s:.0f}",
            f"{np.corrcoef(opening[good], truth[good])[0, 1]:.3f}",
            f"{opening[good].std() / truth[good].std():.2f}",
            f"{int((smallest < CLOSED_MM).sum())} of {len(smallest)}, {np.median(smallest):.1f} mm",
            f"{encoding_ms(latency):.0f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main(tyro.cli(Config))
