"""Audio-video offset: how late a clip's sound is against its lips, by fitting the clip against
itself."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

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

LONG_WINDOWS = WindowLayout(past_frames=25, hop_frames=250, ahead_frames=25)
"""Ten seconds with margins of one: for features that are used here only, and four times faster."""


@dataclass(frozen=True)
class OffsetEstimate:
    """The lag of the sound behind the picture, and how far it can be trusted."""

    offset_ms: float
    """Positive where the sound is late: it must be advanced by so much (`advance_samples`)."""
    confidence: float
    """From 0 (a guess, or the best lag at the end of the range) to 1 (sharp and consistent)."""
    standard_error_ms: float
    """Spread of the offset when one block of the clip is left out (jackknife)."""
    lags_ms: Float64[np.ndarray, " lags"]
    """The lags tried."""
    correlations: Float64[np.ndarray, " lags"]
    """The mean held-out correlation of the targets with their prediction, for every lag."""


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
        return OffsetEstimate(0.0, 0.0, np.inf, LAGS_MS.astype(np.float64), nothing)
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
    return OffsetEstimate(
        offset_ms=float(_peak_ms(curve)),
        confidence=_confidence(curve, error_ms),
        standard_error_ms=error_ms,
        lags_ms=LAGS_MS.astype(np.float64),
        correlations=curve,
    )


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
