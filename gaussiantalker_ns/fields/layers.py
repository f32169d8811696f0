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


def token_mlp(in_dim: int, width: int) -> nn.Sequential:
    """Two linear layers with a leaky rectifier between them, initialised for tokens."""
    mlp = nn.Sequential(
        nn.Linear(in_dim, width), nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(width, width)
    )
    initialise(mlp)
    return mlp
