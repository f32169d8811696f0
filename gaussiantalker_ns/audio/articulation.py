"""Articulation code: windows of speech features to a few numbers that describe the mouth.

Half a minute of video is learned by heart by a network that reads hundreds of raw speech features:
the mouth then follows the clip's own voice and hardly any other. Here a small, strongly regularised
network predicts the mouth's shape from speech first, and the head reads that shape alone. Training
frames get the predictions of networks that never saw them (out of fold), so that the head learns
with the errors that it meets in use. It is what GeneFace (Ye et al. 2023) buys with other people's
video, here from the clip itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NUM_COMPONENTS = 6
"""Length of the code: principal components of the mouth's description."""

OUTLINE_WEIGHT = 3.0
"""Weight of opening and width, the first two columns of the description, over a blendshape."""

SMALLEST_STD = 1e-3
"""Columns of the description that vary less than this are noise."""

LOSS_FLOOR = 0.1
"""Smallest weight of a component in the fit, relative to the first."""

CONTEXT_KERNEL = 3
"""Frames under the first convolution; the second covers what is left of the window."""


@dataclass
class ArticulationConfig:
    """How the articulation code is fitted; it takes a minute before the training."""

    enabled: bool = False
    """Whether the audio token reads the code instead of the encoder's features (the paper)."""
    num_folds: int = 4
    """Networks, >= 2, each of which is fitted without one part of the clip. They predict that part
    for the training; other speech gets their mean."""
    steps: int = 500
    """Steps of each network's fit, >= 1."""
    width: int = 32
    """Channels of the networks."""
    dropout: float = 0.4
    """Fraction of channels that are dropped in the fit, in [0, 1)."""
    noise: float = 0.5
    """Standard deviation of the noise on the standardised features in the fit."""
    margin_frames: int = 25
    """Frames beside the left-out part that are left out with it, as neighbours resemble each
    other."""
    sequence_frames: int = 128
    """Length of the pieces of the clip that a step sees."""
    batch_size: int = 8
    """Pieces in a step."""
    learning_rate: float = 3e-3
    """Highest rate of the fit."""
    weight_decay: float = 1e-2
    """Weight decay of the fit."""
    true_share: float = 1.0
    """In [0, 1]: a training frame's code is drawn between its prediction (0) and up to this
    fraction of the way to its true code, so that the head knows the mouth's whole range."""


@dataclass
class MouthBasis:
    """Principal components of a clip's mouth, of unit variance; what it lacks of them is 0."""

    mean: Float[Tensor, " c"]
    """Mean description."""
    components: Float[Tensor, "c k"]
    """Matrix from centred descriptions to codes."""
    weights: Float[Tensor, " k"]
    """Share of each component in the motion, relative to the first."""

    @classmethod
    def of(cls, mouth: Float[Tensor, "m c"], num_components: int = NUM_COMPONENTS) -> "MouthBasis":
        """The basis of some frames' descriptions: opening, width, then blendshapes."""
        mean, std = mouth.mean(dim=0), mouth.std(dim=0)
        weight = torch.ones_like(std)
        weight[:2] = OUTLINE_WEIGHT
        scale = torch.where(std > SMALLEST_STD, weight / std, torch.zeros_like(std))
        _, singular, vectors = torch.linalg.svd((mouth - mean) * scale, full_matrices=False)
        used = min(num_components, int((singular > singular[0] * 1e-4).sum()))
        deviation = singular[:used] / len(mouth) ** 0.5
        components = torch.zeros(len(mean), num_components)
        components[:, :used] = scale[:, None] * vectors[:used].T / deviation
        weights = torch.zeros(num_components)
        weights[:used] = deviation / deviation[0]
        return cls(mean, components, weights)

    def encode(self, mouth: Float[Tensor, "m c"]) -> Float[Tensor, "m k"]:
        """Codes of descriptions; NaN where those are."""
        return (mouth - self.mean) @ self.components


class ArticulationNet(nn.Module):
    """One regressor: features over a window of frames to the code of the frame it belongs to."""

    def __init__(self, in_dim: int, window_frames: int, num_codes: int, width: int, dropout: float):
        super().__init__()
        first = min(CONTEXT_KERNEL, window_frames)
        self.layers = nn.Sequential(
            nn.Conv1d(in_dim, width, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, first),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, window_frames - first + 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, num_codes, 1),
        )

    def forward(self, features: Float[Tensor, "b p t"]) -> Float[Tensor, "b k m"]:
        """Codes of all frames whose windows are complete."""
        return self.layers(features)


class ArticulationCode(nn.Module):
    """The fitted networks; their mean is the code of any speech."""

    def __init__(
        self, config: ArticulationConfig, window_frames: int, in_dim: int, num_codes: int
    ) -> None:
        super().__init__()
        self.config, self.window_frames, self.num_codes = config, window_frames, num_codes
        self.members = nn.ModuleList(
            ArticulationNet(in_dim, window_frames, num_codes, config.width, config.dropout)
            for _ in range(config.num_folds)
        ).requires_grad_(False)

    def train(self, mode: bool = True) -> "ArticulationCode":
        """Stay as fitted: the head's training does not touch the code."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, audio: Float[Tensor, "b t w a"]) -> Float[Tensor, "b k"]:
        """Codes of standardised windows of features."""
        series = audio.flatten(2).transpose(1, 2)
        codes = [member(series)[..., 0] for member in self.members]
        return torch.stack(codes).mean(dim=0)


@dataclass
class ArticulationFit:
    """What the head's training needs: the code's networks, and codes of the clip's frames."""

    code: ArticulationCode
    """The networks."""
    predicted: Float[Tensor, "n k"]
    """Codes of all frames: out of fold where a frame took part in the fit."""
    true: Float[Tensor, "n k"]
    """Codes of the frames' real mouths; the prediction where the mouth was not measured."""
    shrinkage: float
    """Spread of the out-of-fold predictions over that of the true codes, in (0, 1]: who is unsure
    stays near the mean."""
    correlations: list[float]
    """Correlation of each component's out-of-fold prediction with the truth."""


def fit_articulation(
    config: ArticulationConfig,
    audio: Float[Tensor, "n w a"],
    mouth: Float[Tensor, "n c"],
    train_frames: Int[Tensor, " m"],
    silence: Float[Tensor, "s t w a"],
    closed_lips: Int[Tensor, " l"],
    window_frames: int,
    progress: Callable[[], None] = lambda: None,
) -> ArticulationFit:
    """Fit the code's networks to the training frames of a clip, on the CPU, with fixed seeds.

    Args:
        config: Sizes and regularisation.
        audio: Standardised features of all frames.
        mouth: Description of the mouth in all frames; NaN rows where it was not measured.
        train_frames: Frames of the training split.
        silence: Standardised windows of silence; their target is the mean closed mouth.
        closed_lips: Training frames with closed lips.
        window_frames: Frames in a window.
        progress: Called after every network.

    Returns:
        The networks and the codes of all frames.
    """
    seen = torch.zeros(len(mouth), dtype=torch.bool)
    seen[train_frames] = True
    seen &= mouth.isfinite().all(dim=1)
    frames = seen.nonzero()[:, 0]
    basis = MouthBasis.of(mouth[frames])
    true = basis.encode(mouth)
    closed = true[closed_lips]
    closed = closed[closed.isfinite().all(dim=1)]
    in_dim = audio[0].numel()
    with torch.random.fork_rng(devices=[]):
        code = ArticulationCode(config, window_frames, in_dim, true.shape[1])
    before = window_frames // 2
    padding = (before, window_frames - 1 - before)
    series = nn.functional.pad(audio.flatten(1).T[None], padding, mode="replicate")[0]
    data = _FitData(series, true, basis.weights, silence.flatten(2).transpose(1, 2), closed)
    predicted = torch.zeros_like(true)
    mean = torch.zeros_like(true)
    for index, block in enumerate(torch.tensor_split(frames, config.num_folds)):
        weight = seen.float()
        weight[max(int(block[0]) - config.margin_frames, 0) : int(block[-1]) + 1] = 0
        weight[int(block[-1]) + 1 : int(block[-1]) + 1 + config.margin_frames] = 0
        member = code.members[index]
        assert isinstance(member, ArticulationNet), "members are networks"
        _fit(config, member, data, weight, seed=index)
        with torch.no_grad():
            codes = member(series[None])[0].T
        mean += codes / config.num_folds
        predicted[block] = codes[block]
        progress()
    predicted = torch.where(seen[:, None], predicted, mean)
    correlations = [
        float(torch.corrcoef(torch.stack([predicted[frames, k], true[frames, k]]))[0, 1])
        for k in range(true.shape[1])
    ]
    spreads = [(codes[frames].std(dim=0) * basis.weights).norm() for codes in (predicted, true)]
    measured = true.isfinite().all(dim=1, keepdim=True)
    true = torch.where(measured, true, predicted)
    return ArticulationFit(code, predicted, true, float(spreads[0] / spreads[1]), correlations)


@dataclass
class _FitData:
    series: Float[Tensor, "p m"]
    codes: Float[Tensor, "n k"]
    weights: Float[Tensor, " k"]
    silence: Float[Tensor, "s p t"]
    closed: Float[Tensor, "l k"]


def _fit(
    config: ArticulationConfig,
    member: ArticulationNet,
    data: _FitData,
    weight: Float[Tensor, " n"],
    seed: int,
) -> None:
    """Fit one network to the frames with weight."""
    codes = torch.nan_to_num(data.codes)
    component = data.weights.square().clamp_min(LOSS_FLOOR)
    context = data.series.shape[1] - len(codes)
    length = min(config.sequence_frames, len(codes))
    resting = data.closed.mean(dim=0) if len(data.closed) and len(data.silence) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in member.layers:
            if isinstance(layer, nn.Conv1d):
                layer.reset_parameters()
        member.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(
            member.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.steps
        )
        for _ in range(config.steps):
            starts = torch.randint(len(codes) - length + 1, (config.batch_size,)).tolist()
            inputs = torch.stack([data.series[:, s : s + length + context] for s in starts])
            wanted = torch.stack([codes[s : s + length] for s in starts])
            counted = torch.stack([weight[s : s + length] for s in starts])
            inputs = inputs + config.noise * torch.randn_like(inputs)
            error = (member(inputs).transpose(1, 2) - wanted).square() @ component
            loss = (error * counted).sum() / counted.sum().clamp_min(1)
            if resting is not None:
                picks = torch.randint(len(data.silence), (config.batch_size,))
                quiet = data.silence[picks]
                quiet = quiet + config.noise * torch.randn_like(quiet)
                loss = loss + 0.1 * ((member(quiet)[..., 0] - resting).square() @ component).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        member.eval().requires_grad_(False)
