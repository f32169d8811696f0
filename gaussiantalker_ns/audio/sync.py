"""Audio-video offset: how late a clip's sound is against its lips, by fitting the clip against
itself, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from scipy.ndimage import gaussian_filter1d
from scipy.stats import t as student_t

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.encoders.whisper import TOKENS_PER_FRAME, WhisperEncoder, WindowLayout

STEP_MS = 20
"""The lags tried are one Whisper token apart."""

LAGS_MS = np.arange(-100, 260 + STEP_MS, STEP_MS)
"""Real clips were found up to 130 ms late and hardly ever early."""

NUM_COMPONENTS = 32
NUM_BLOCKS = 8
RIDGE = 0.1
"""Ridge penalty, relative to unit-variance components."""

MIN_FRAMES = 75
"""Three seconds of visible lips; with less nothing can be said."""

UNSURE_MS = 30.0
"""A standard error of this size means half confidence."""

SLOW_FRAMES = 12.0
"""Changes slower than this (sigma of a Gaussian) say nothing about words: they are left out where
chance is judged, as any two clips have trends that fit."""

WRONG_SHIFT_TOKENS = 25
"""Shifts this far (0.5 s) beyond the lags are impossible: nothing fits there but by chance."""

MAX_WRONG_SHIFTS = 200

INDEPENDENT_MS = 240.0
"""Correlations at shifts closer than this are much the same."""

NUM_CHOICES = 3
"""The lags span so many independent shifts, of which the best one is taken."""

LIKELY_CHANCE = 0.002
"""With this probability of chance half of the confidence is left."""

MIN_JUDGED_FRAMES = 175
"""Seven seconds; of less, own sound cannot be told from foreign one."""

FOREIGN_CHANCE = 0.02
"""Above this probability of chance the sound is called foreign; own sound stayed below it."""

LONG_WINDOWS = WindowLayout(past_frames=25, hop_frames=250, ahead_frames=25)
"""Ten seconds with margins of one: for features that are used here only, and four times faster."""


@dataclass(frozen=True)
class OffsetEstimate:
    """The lag of the sound behind the picture, and how far it can be trusted."""

    offset_ms: float
    """Positive where the sound is late: it must be advanced by so much (`advance_samples`)."""
    confidence: float
    """From 0 (a guess, or the best lag at the end of the range) to 1 (sharp, consistent and more
    than chance)."""
    standard_error_ms: float
    """Spread of the offset when one block of the clip is left out (jackknife)."""
    lags_ms: Float64[np.ndarray, " lags"]
    """The lags tried."""
    correlations: Float64[np.ndarray, " lags"]
    """The mean held-out correlation of the targets with their prediction, for every lag."""
    chance: float
    """Probability that sound which does not belong to these lips fits them as well; 1 where there
    is too little to judge by."""
    num_frames: int
    """Frames with lips and sound."""

    @property
    def is_foreign(self) -> bool:
        """Whether the sound seems not to be these lips': there was enough to see that it is."""
        return self.num_frames >= MIN_JUDGED_FRAMES and self.chance > FOREIGN_CHANCE


def estimate_av_offset(
    samples: Float32[np.ndarray, " samples"],
    targets: Float[np.ndarray, "frames m"],
    encoder: AudioFeatureEncoder | None = None,
) -> OffsetEstimate:
    """Estimate how late the sound is, from the sound and what the lips do in every frame.

    For every lag a ridge regression on 32 principal components of the Whisper token at that lag
    predicts each target; blocks of frames are held out in turn; the peak of the mean correlation
    is refined by a parabola. Eight seconds of speech give about +-30 ms, a minute about +-10 ms.
    The two tokens of a frame are 20 ms apart and its second one is at its middle, so lag 0 means
    that sound and picture fit.

    A peak is not yet a fit: any speech fits any lips somewhere. So the sound is also laid around
    the clip in circles, at shifts that cannot be right, and the peak must stand out of what is
    found there; how far depends on how many independent shifts the clip is long enough for.

    Args:
        samples: The clip's sound at 16 kHz, sample 0 at the start of video frame 0.
        targets: Per frame, e.g. mouth opening and mouth width over the eye distance, from
            landmarks that are *not* low-passed over time; NaN rows (no face) are left out.
        encoder: A Whisper encoder to use instead of a new one.
    """
    encoder = encoder or WhisperEncoder(layout=LONG_WINDOWS)
    features = encoder.encode(samples, num_frames=len(targets))
    tokens = features.reshape(-1, features.shape[-1])
    first, last = LAGS_MS[0] // STEP_MS, LAGS_MS[-1] // STEP_MS
    middle = TOKENS_PER_FRAME * np.arange(len(targets)) + 1
    usable = (middle + first >= 0) & (middle + last < len(tokens))
    usable &= np.isfinite(targets).all(axis=1)
    frames = np.flatnonzero(usable)
    if len(frames) < MIN_FRAMES:
        nothing = np.zeros(len(LAGS_MS))
        lags_ms = LAGS_MS.astype(np.float64)
        return OffsetEstimate(0.0, 0.0, np.inf, lags_ms, nothing, 1.0, len(frames))
    components = _principal_components(tokens.astype(np.float64))
    wanted = _standardise(targets[frames].astype(np.float64))
    blocks = np.array_split(np.arange(len(frames)), NUM_BLOCKS)
    predictions = [
        _held_out_predictions(components[middle[frames] + lag // STEP_MS], wanted, blocks)
        for lag in LAGS_MS
    ]
    curve = np.array([_mean_correlation(p, wanted) for p in predictions])
    leave_out = [np.setdiff1d(np.arange(len(frames)), block) for block in blocks]
    partial_offsets = np.array(
        [
            _peak_ms(np.array([_mean_correlation(p[kept], wanted[kept]) for p in predictions]))
            for kept in leave_out
        ]
    )
    error_ms = float(np.sqrt((NUM_BLOCKS - 1) * np.var(partial_offsets)))
    chance = _chance(components, targets.astype(np.float64), frames, int(np.argmax(curve)))
    return OffsetEstimate(
        offset_ms=float(_peak_ms(curve)),
        confidence=_confidence(curve, error_ms) / (1.0 + (chance / LIKELY_CHANCE) ** 2),
        standard_error_ms=error_ms,
        lags_ms=LAGS_MS.astype(np.float64),
        correlations=curve,
        chance=chance,
        num_frames=len(frames),
    )


def _chance(
    components: Float64[np.ndarray, "tokens c"],
    targets: Float64[np.ndarray, "frames m"],
    frames: Int64[np.ndarray, " usable"],
    best: int,
) -> float:
    """Return how probable so high a correlation at lag number `best` is for foreign sound."""
    inputs = _standardise(_without_slow(components, SLOW_FRAMES * TOKENS_PER_FRAME))
    wanted = _standardise(_without_slow(_filled(targets, frames), SLOW_FRAMES)[frames])
    blocks = np.array_split(np.arange(len(frames)), NUM_BLOCKS)
    middle = TOKENS_PER_FRAME * frames + 1

    def correlations(shifts: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        rows = [(middle + shift) % len(inputs) for shift in shifts]
        return np.array(
            [
                _mean_correlation(_held_out_predictions(inputs[r], wanted, blocks), wanted)
                for r in rows
            ]
        )

    lags = LAGS_MS // STEP_MS
    first = lags[-1] + WRONG_SHIFT_TOKENS
    stop = len(inputs) + lags[0] - WRONG_SHIFT_TOKENS
    num_independent = (stop - first) * STEP_MS / INDEPENDENT_MS
    if num_independent < 3:
        return 1.0
    wrong = correlations(np.unique(np.linspace(first, stop - 1, MAX_WRONG_SHIFTS).astype(np.int64)))
    peak = correlations(lags[max(best - 1, 0) : best + 2]).max()
    deviation = (peak - wrong.mean()) / max(float(wrong.std()), 1e-9)
    scale = np.sqrt(num_independent / (num_independent + 1))
    return float(min(NUM_CHOICES * student_t.sf(scale * deviation, num_independent - 1), 1.0))


def _filled(
    targets: Float64[np.ndarray, "frames m"], frames: Int64[np.ndarray, " usable"]
) -> Float64[np.ndarray, "frames m"]:
    """Return the targets with frames without a face interpolated, so that they can be filtered."""
    every = np.arange(len(targets))
    return np.stack([np.interp(every, frames, column[frames]) for column in targets.T], axis=1)


def _without_slow(values: Float64[np.ndarray, "n m"], sigma: float) -> Float64[np.ndarray, "n m"]:
    return values - gaussian_filter1d(values, sigma, axis=0, mode="nearest")


def _standardise(values: Float64[np.ndarray, "frames m"]) -> Float64[np.ndarray, "frames m"]:
    return (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)


def _principal_components(
    tokens: Float64[np.ndarray, "frames a"],
) -> Float64[np.ndarray, "frames m"]:
    """Return the leading principal components of the tokens, each of unit variance."""
    centred = tokens - tokens.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return _standardise(centred @ vectors[:, -NUM_COMPONENTS:])


def _held_out_predictions(
    inputs: Float64[np.ndarray, "frames a"], targets: Float64[np.ndarray, "frames m"], blocks: list
) -> Float64[np.ndarray, "frames m"]:
    """Predict every block of rows by a ridge regression fitted on the other blocks."""
    predictions = np.empty_like(targets)
    gram, moment = inputs.T @ inputs, inputs.T @ targets
    for block in blocks:
        held = inputs[block]
        penalty = RIDGE * (len(inputs) - len(block)) * np.eye(inputs.shape[1])
        weights = np.linalg.solve(gram - held.T @ held + penalty, moment - held.T @ targets[block])
        predictions[block] = held @ weights
    return predictions


def _mean_correlation(
    predictions: Float64[np.ndarray, "frames m"], targets: Float64[np.ndarray, "frames m"]
) -> float:
    return float(np.mean(_standardise(predictions) * _standardise(targets)))


def _peak_ms(curve: Float64[np.ndarray, " lags"]) -> float:
    """Return the place of the maximum, refined by a parabola through its neighbours."""
    best = int(np.argmax(curve))
    if best in (0, len(curve) - 1):
        return float(LAGS_MS[best])
    left, middle, right = curve[best - 1 : best + 2]
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(LAGS_MS[best] + shift * STEP_MS)


def _confidence(curve: Float64[np.ndarray, " lags"], error_ms: float) -> float:
    """Return 0 for a peak at the end of the range or below noise, else fall with the error."""
    best = int(np.argmax(curve))
    if best in (0, len(curve) - 1) or curve[best] < 0.15:
        return 0.0
    return float(1.0 / (1.0 + (error_ms / UNSURE_MS) ** 2))
