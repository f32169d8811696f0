"""The small networks of a talker as lists of layers: what the run-time builds them from."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from gaussiantalker_ns.fields.audio_encoder import AudioEncoder
from gaussiantalker_ns.fields.tokens import ConditionTokens

Layer = dict[str, Any]
"""Name of the weights, kernel, stride, padding and activation; a linear layer has a kernel of 1."""

Arrays = dict[str, Float32[np.ndarray, "..."]]


def array(tensor: Tensor) -> Float32[np.ndarray, "..."]:
    """A tensor as an array of its own."""
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


@dataclass
class Networks:
    """Layers by network, and their weights as `[kernel x inputs, outputs]`."""

    layers: dict[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)

    def sequence(self, name: str, modules: nn.Module) -> list[Layer]:
        """Describe convolutions and linear layers, each with the activation behind it.

        Dropout and flattening do nothing to one row of a trained network.
        """
        layers: list[Layer] = []
        for module in modules.children():
            if isinstance(module, nn.Conv1d | nn.Linear):
                layers.append(self._layer(f"{name}.{len(layers)}", module))
            elif isinstance(module, nn.LeakyReLU | nn.ReLU | nn.GELU):
                layers[-1]["activation"] = ACTIVATIONS[type(module)]
            else:
                assert isinstance(module, nn.Dropout | nn.Flatten), type(module)
        return layers

    def _layer(self, name: str, module: nn.Conv1d | nn.Linear) -> Layer:
        weight = module.weight if isinstance(module, nn.Conv1d) else module.weight[:, :, None]
        self.arrays[name + ".weight"] = array(weight.permute(2, 1, 0).flatten(0, 1))
        if module.bias is not None:
            self.arrays[name + ".bias"] = array(module.bias)
        conv = module if isinstance(module, nn.Conv1d) else None
        return {
            "weights": name,
            "kernel": weight.shape[2],
            "stride": conv.stride[0] if conv else 1,
            "padding": int(conv.padding[0]) if conv else 0,
            "activation": "plain",
        }


ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.LeakyReLU: "leaky",
    nn.ReLU: "relu",
    nn.GELU: "gelu",
}
"""Names of the run-time's activations; the leaky one has the slope of `NEGATIVE_SLOPE`."""


@torch.no_grad()
def token_networks(tokens: ConditionTokens, members: list[nn.Module]) -> Networks:
    """The networks behind the tokens of a frame.

    Args:
        tokens: Those of the head.
        members: The networks from speech to the articulation code; none for raw features.
    """
    networks, config = Networks(), tokens.config
    networks.layers["articulation"] = [
        networks.sequence(f"articulation.{index}", member.get_submodule("layers"))
        for index, member in enumerate(members)
    ]
    if config.audio:
        audio: AudioEncoder = tokens.audio
        parts: dict[str, Any] = {
            name: networks.sequence(f"audio.{name}", getattr(audio, name))
            for name in ("window_net", "frame_net", "token_net")
        }
        # A window of one frame has nothing to weigh.
        if audio.temporal_attention is not None:
            score = list(audio.temporal_attention.score.children())
            parts["score"] = networks.sequence("audio.score", nn.Sequential(*score[:-1]))
            parts["weigh"] = networks.sequence("audio.weigh", nn.Sequential(score[-1]))
        networks.layers["audio"] = parts
    for name in ("eye", "viewpoint"):
        if getattr(config, name):
            networks.layers[name] = networks.sequence(name, getattr(tokens, name))
    if config.null:
        networks.arrays["null"] = array(tokens.null)
    return networks
