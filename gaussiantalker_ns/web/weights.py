"""The numbers of a talker in the form in which a browser computes with them."""

from typing import Any

import numpy as np
import torch
from torch import nn

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.encoders.mel import mel_filters
from gaussiantalker_ns.audio.encoders.whisper import MODEL_WIDTH, NUM_BLOCKS, NUM_HEADS, WEIGHTS
from gaussiantalker_ns.fields.deformation import DeformationHeads
from gaussiantalker_ns.fields.talking_head import TalkingHead
from gaussiantalker_ns.frame_signals import flatten_pose
from gaussiantalker_ns.inference.talker_file.packed_model import PackedModel
from gaussiantalker_ns.web.networks import Arrays, Networks, array, token_networks

FIXED_COLUMNS = {"position": (0, 3), "scale": (3, 3), "rotation": (6, 4), "opacity": (10, 1)}
"""First column and number of columns of each attribute; the spherical harmonics follow."""

HARMONICS = 11
"""First column of the spherical harmonics, three for each base."""


def whisper_arrays() -> Arrays:
    """The encoder's weights: matrices `[inputs, outputs]`, convolutions `[taps x inputs, outputs]`.

    Queries come scaled by the root of a head's width, which is a power of two.
    """
    with np.load(asset_path(WEIGHTS)) as stored:
        found = {name: stored[name].astype(np.float32) for name in stored.files}
    arrays = {"mel.filters": array(mel_filters().T)}
    for name in ("conv1", "conv2"):
        weight = found[f"{name}.weight"].transpose(2, 1, 0)
        arrays[f"{name}.weight"] = np.ascontiguousarray(weight.reshape(-1, MODEL_WIDTH))
        arrays[f"{name}.bias"] = found[f"{name}.bias"]
    scale = np.float32((MODEL_WIDTH // NUM_HEADS) ** -0.5)
    parts = {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "out": "self_attn.out_proj",
        "widen": "fc1",
        "narrow": "fc2",
    }
    for block in range(NUM_BLOCKS):
        for name, source in parts.items():
            factor = scale if name == "query" else np.float32(1)
            weight = found[f"layers.{block}.{source}.weight"].T
            arrays[f"{block}.{name}.weight"] = np.ascontiguousarray(weight) * factor
            bias = found.get(f"layers.{block}.{source}.bias")
            if bias is not None:
                arrays[f"{block}.{name}.bias"] = bias * factor
        for name, source in (("norm1", "self_attn_layer_norm"), ("norm2", "final_layer_norm")):
            for part in ("weight", "bias"):
                arrays[f"{block}.{name}.{part}"] = found[f"layers.{block}.{source}.{part}"]
    return {f"whisper.{name}": value for name, value in arrays.items()}


@torch.no_grad()
def head_arrays(model: PackedModel) -> Arrays:
    """The head: canonical Gaussians, and what deforms them."""
    head, bases = model.head, (model.sh_degree + 1) ** 2
    gaussians = head.canonical()
    columns = [gaussians.log_scales, gaussians.quats, gaussians.opacity_logits[:, None]]
    layer: Any = head.fusion.get_submodule("layers.0")
    hidden, norm = head.deformation.hidden, layer.attention_norm
    arrays = {
        "means": gaussians.means,
        "shapes": torch.cat([*columns, gaussians.sh[:, :bases].flatten(1)], dim=1),
        "features": head.fusion.get_submodule("feature_in")(model.features),
        "query.weight": layer.query.weight,
        "query.bias": layer.query.bias,
        "key.weight": layer.key.weight.T,
        "key.bias": layer.key.bias,
        "value.weight": layer.value.weight.T,
        "value.bias": layer.value.bias,
        "out.weight": layer.out.weight.T,
        "out.bias": layer.out.bias,
        "hidden.weight": (hidden.weight * norm.weight).T,
        "hidden.bias": hidden.weight @ norm.bias + hidden.bias,
    }
    found = {f"head.{name}": array(tensor) for name, tensor in arrays.items()}
    weight, bias = output_columns(head.deformation, bases)
    return {**found, "head.output.weight": weight, "head.output.bias": bias}


def output_columns(heads: DeformationHeads, bases: int) -> tuple[np.ndarray, np.ndarray]:
    """The last layer for all columns of a Gaussian; attributes without offsets have zeros."""
    num_columns = HARMONICS + 3 * bases
    weight = np.zeros((heads.config.hidden_width, num_columns), np.float32)
    bias = np.zeros(num_columns, np.float32)
    first = 0
    for name, size in zip(heads.deformed, heads.sizes):
        to, count = FIXED_COLUMNS.get(name, (HARMONICS, 3 * bases))
        rows = slice(first, first + min(count, size))
        weight[:, to : to + count] = array(heads.output.weight[rows]).T
        bias[to : to + count] = array(heads.output.bias[rows])
        first += size
    return weight, bias


def signal_arrays(model: PackedModel, num_frames: int) -> Arrays:
    """Statistics of the speech features, a row of silence, and the motion track's beginning."""
    bank = model.bank
    rows = bank.audio.shape[1]
    if len(bank.silence_features):
        silence = bank.silence_features.float().mean(dim=(0, 1))
    else:
        silence = bank.audio_mean.expand(rows, -1)
    return {
        "audio.mean": array(bank.audio_mean.repeat(rows)),
        "audio.std": array(bank.audio_std.repeat(rows)),
        "audio.silence": array(silence.flatten()),
        "track.poses": array(flatten_pose(bank.poses[:num_frames])),
        "track.eye": array(bank.eye[:num_frames]),
    }


def networks_of(model: PackedModel) -> Networks:
    """The networks behind the tokens."""
    head: TalkingHead = model.head
    codes = model.bank.speech_codes
    members: list[nn.Module] = [] if codes is None else list(codes.code.members)
    return token_networks(head.tokens, members)
