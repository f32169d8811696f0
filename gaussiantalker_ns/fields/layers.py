"""The small perceptron that every token network is made of, with the initialisation it needs."""

from torch import nn

NEGATIVE_SLOPE = 0.02
"""Slope of the leaky rectifiers for negative input, as in the public code's audio network."""


def initialise(module: nn.Module) -> None:
    """Give linear and convolution layers Kaiming-normal weights and zero bias.

    With torch's defaults every layer shrinks the signal, and after eight of them the audio token
    varies over frames by a hundredth of the null token's size, which the attention never recovers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, a=NEGATIVE_SLOPE, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def token_mlp(in_dim: int, width: int, out_dim: int | None = None) -> nn.Sequential:
    """Two linear layers with a leaky rectifier between them, initialised for tokens.

    Args:
        in_dim: Length of the signal.
        width: Length of the hidden layer.
        out_dim: Length of the result, if it is not that of the hidden layer.
    """
    mlp = nn.Sequential(
        nn.Linear(in_dim, width), nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(width, out_dim or width)
    )
    initialise(mlp)
    return mlp


def viewpoint_mlp(in_dim: int, width: int) -> nn.Sequential:
    """The public code's network of the raw camera: no biases, Xavier's weights.

    A distance of eight decimetres is among its inputs; Kaiming's weights would make a token of it
    that is several times as large as the others.
    """
    mlp = nn.Sequential(
        nn.Linear(in_dim, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False)
    )
    for layer in (mlp[0], mlp[2]):
        nn.init.xavier_uniform_(layer.weight)  # pyright: ignore[reportArgumentType]
    return mlp
