"""F_can (Eq. 8) and the attributes that Table 3 switches."""

import itertools
from dataclasses import fields

import pytest
import torch

from gaussiantalker_ns.fields.canonical import CanonicalAttribute, CanonicalFieldConfig

ATTRIBUTES: tuple[CanonicalAttribute, ...] = ("scale", "rotation", "sh", "opacity")
FIELDS = dict(zip(ATTRIBUTES, ("log_scales", "quats", "sh", "opacity_logits")))
EVERY_CHOICE = [choice for size in range(5) for choice in itertools.combinations(ATTRIBUTES, size)]


@pytest.mark.parametrize("chosen", EVERY_CHOICE, ids=lambda c: "+".join(c) or "none")
def test_only_chosen_attributes_are_predicted(chosen: tuple[CanonicalAttribute, ...]) -> None:
    field = CanonicalFieldConfig(canonical_attributes=chosen).setup(64, 16)
    features = torch.rand(7, 64, requires_grad=True)
    predicted = field(features)
    present = {f.name for f in fields(predicted) if getattr(predicted, f.name) is not None}
    assert present == {FIELDS[name] for name in chosen}
    assert field.predicted == chosen
    if not chosen:
        assert not list(field.parameters())
        return
    values = [getattr(predicted, name).square().sum() for name in present]
    sum(values, torch.zeros(())).backward()
    assert features.grad is not None and features.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in field.parameters())


def test_starts_at_a_round_gaussian_of_the_given_size() -> None:
    field = CanonicalFieldConfig().setup(64, 4, -2.5)
    predicted = field(torch.rand(100, 64))
    assert predicted.log_scales.mean(0).tolist() == pytest.approx([-2.5] * 3, abs=0.1)
    assert predicted.quats.mean(0).tolist() == pytest.approx([1, 0, 0, 0], abs=0.1)
    assert predicted.opacity_logits.sigmoid().mean().item() == pytest.approx(0.5, abs=0.02)
    assert predicted.sh.shape == (100, 4, 3)
    assert float(predicted.sh.detach().abs().max()) < 0.3


def test_unknown_attribute_is_refused() -> None:
    config = CanonicalFieldConfig()
    # Past the type checks of the tests, as a configuration file would.
    vars(config)["canonical_attributes"] = ("colour",)
    with pytest.raises(ValueError, match=r"\['colour'\]; expected some of"):
        config.__post_init__()
