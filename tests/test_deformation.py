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


@pytest.mark.parametrize("joint", [False, True])
def test_shapes_and_offsets_near_zero(joint: bool) -> None:
    heads = DeformationHeadsConfig(joint=joint).setup(64, 4)
    deltas = heads(torch.nn.functional.layer_norm(torch.randn(2, 50, 64), (64,)))
    shapes = {name: tuple(getattr(deltas, name).shape) for name in FIELDS.values()}
    assert shapes == {
        "means": (2, 50, 3),
        "log_scales": (2, 50, 3),
        "quats": (2, 50, 4),
        "opacity_logits": (2, 50),
        "sh": (2, 50, 4, 3),
    }
    largest = max(float(delta.abs().mean()) for delta in deltas.present())
    # Xavier's weights with the public code's gain are wider for attributes of few numbers.
    assert largest < (0.05 if joint else 0.15)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("off", FIELDS)
def test_each_offset_can_be_switched_off(off: str, joint: bool) -> None:
    heads = DeformationHeadsConfig(**{off: False}, joint=joint).setup(64, 16)
    deltas = heads(torch.randn(1, 5, 64))
    absent = {f.name for f in fields(deltas) if getattr(deltas, f.name) is None}
    assert absent == {FIELDS[off]}
    columns = heads.output.out_features if joint else sum(heads.sizes)
    sizes = {"position": 3, "scale": 3, "rotation": 4, "sh": 48, "opacity": 1}
    assert columns == sum(sizes.values()) - sizes[off]


def test_separate_heads_are_those_of_the_obvious_loop() -> None:
    """Each attribute has a network of its own: rectifier, layer, rectifier, layer."""
    heads = DeformationHeadsConfig(hidden_width=8).setup(64, 4)
    h = torch.randn(2, 7, 64)
    deltas = heads(h)
    for index, name in enumerate(heads.deformed):
        rows = slice(8 * index, 8 * index + 8)
        hidden = torch.relu(h) @ heads.hidden.weight[rows].T + heads.hidden.bias[rows]
        expected = heads.outputs[index](torch.relu(hidden))
        found = getattr(deltas, FIELDS[name])
        assert torch.allclose(found.reshape(expected.shape), expected, atol=1e-6), name


def test_all_switched_off() -> None:
    heads = DeformationHeadsConfig(**dict.fromkeys(FIELDS, False)).setup(64, 16)
    assert not list(heads.parameters())
    assert not list(heads(torch.randn(1, 5, 64)).present())


@pytest.mark.parametrize("joint", [False, True])
def test_gradients_reach_every_parameter_at_initialisation(joint: bool) -> None:
    """Only the hidden layer's is small: the output layer starts at a tenth of its usual size."""
    heads = DeformationHeadsConfig(joint=joint).setup(64, 16)
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
    for output in heads.outputs:
        assert output.weight.grad is not None and output.weight.grad.any()
