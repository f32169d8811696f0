"""The deformation heads (Eq. 14) and the offsets that Table 4 switches."""

from dataclasses import fields

import pytest
import torch

from gaussiantalker_ns.fields.deformation import DeformationHeadsConfig

FIELDS = {
    "position": "means",
    "scale": "log_scales",
    "rotation": "quats",
    "sh": "sh",
    "opacity": "opacity_logits",
}


def test_shapes_and_offsets_near_zero() -> None:
    heads = DeformationHeadsConfig().setup(64, 4)
    deltas = heads(torch.nn.functional.layer_norm(torch.randn(2, 50, 64), (64,)))
    shapes = {name: tuple(getattr(deltas, name).shape) for name in FIELDS.values()}
    assert shapes == {
        "means": (2, 50, 3),
        "log_scales": (2, 50, 3),
        "quats": (2, 50, 4),
        "opacity_logits": (2, 50),
        "sh": (2, 50, 4, 3),
    }
    assert max(float(delta.abs().mean()) for delta in deltas.present()) < 0.05


@pytest.mark.parametrize("off", FIELDS)
def test_each_offset_can_be_switched_off(off: str) -> None:
    heads = DeformationHeadsConfig(**{off: False}).setup(64, 16)
    deltas = heads(torch.randn(1, 5, 64))
    absent = {f.name for f in fields(deltas) if getattr(deltas, f.name) is None}
    assert absent == {FIELDS[off]}
    all_rows = DeformationHeadsConfig().setup(64, 16).output.out_features
    sizes = {"position": 3, "scale": 3, "rotation": 4, "sh": 48, "opacity": 1}
    assert heads.output.out_features == all_rows - sizes[off]


def test_all_switched_off() -> None:
    heads = DeformationHeadsConfig(**dict.fromkeys(FIELDS, False)).setup(64, 16)
    assert not list(heads.parameters())
    assert not list(heads(torch.randn(1, 5, 64)).present())


def test_gradients_reach_every_parameter_at_initialisation() -> None:
    """Only the hidden layer's is small: the output layer starts at a tenth of its usual size."""
    heads = DeformationHeadsConfig().setup(64, 16)
    h = torch.randn(2, 9, 64, requires_grad=True)
    sum((d.sum() for d in heads(h).present()), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.any() for p in heads.parameters())
    assert h.grad is not None and h.grad.any()


def test_zero_gain_is_the_identity_and_stops_the_gradient_to_the_feature() -> None:
    heads = DeformationHeadsConfig(output_gain=0.0).setup(64, 16)
    h = torch.randn(2, 9, 64, requires_grad=True)
    deltas = heads(h)
    assert all(not delta.any() for delta in deltas.present())
    sum((d.sum() for d in deltas.present()), torch.zeros(())).backward()
    assert h.grad is not None and not h.grad.any()
    assert heads.output.weight.grad is not None and heads.output.weight.grad.any()
