"""The network and its switches (the paper's Tables 3 to 5): what exists, what gets gradients."""

from dataclasses import fields

import pytest
import torch

from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.fields.deformation import DeformationHeadsConfig
from gaussiantalker_ns.fields.talking_head import TalkingHead, TalkingHeadConfig
from gaussiantalker_ns.fields.tokens import ConditionTokensConfig
from gaussiantalker_ns.fields.triplane import TriPlaneConfig
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas
from gaussiantalker_ns.gaussians.initialization import gaussian_parameters, neighbour_scales

BOUNDS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
MOUTH_BORDER = torch.tensor([0.4, 0.6])
FREE = {"scale": "scales", "rotation": "quats", "opacity": "opacities", "sh": "features_dc"}
ATTRIBUTES = {
    "scale": "log_scales",
    "rotation": "quats",
    "opacity": "opacity_logits",
    "sh": "sh",
}


def make_head(num_gaussians: int = 40, **settings) -> TalkingHead:
    torch.manual_seed(0)
    defaults = {
        "sh_degree": 1,
        "triplane": TriPlaneConfig(resolutions=(8, 16), channels=4),
        "attention": SpatialAudioAttentionConfig(num_layers=1, dropout=0.0),
    }
    gaussians = gaussian_parameters(
        torch.rand(num_gaussians, 3),
        torch.randint(0, 255, (num_gaussians, 3)).byte(),
        sh_degree=settings.get("sh_degree", 1),
        opacity=0.3,
    )
    config = TalkingHeadConfig(**{**defaults, **settings})
    return TalkingHead(config, gaussians, BOUNDS, MOUTH_BORDER, audio_shape=(2, 6), eye_size=17)


def make_condition(batch: int = 3) -> FrameCondition:
    torch.manual_seed(1)
    return FrameCondition(
        torch.randn(batch, 8, 2, 6), torch.randn(batch, 17), torch.randn(batch, 12)
    )


def backward(head: TalkingHead) -> dict[str, float]:
    """Sizes of the gradients of something that depends on everything that is rendered."""
    features = head.features()
    deltas = head.deltas(features, make_condition())
    gaussians = head.canonical(features).deformed(deltas)
    total = sum(getattr(gaussians, field.name).square().sum() for field in fields(gaussians))
    total.backward()
    return {
        name: 0.0 if parameter.grad is None else float(parameter.grad.abs().sum())
        for name, parameter in head.named_parameters()
    }


@pytest.mark.parametrize(
    "attributes",
    [("scale", "rotation", "sh", "opacity"), ("sh", "opacity"), ("scale", "rotation"), ()],
)
def test_table_3_canonical_attributes(attributes: tuple):
    head = make_head(canonical=CanonicalFieldConfig(canonical_attributes=attributes))
    gradients = backward(head)
    assert any("canonical_field" in name for name in gradients) == bool(attributes)
    for attribute, name in FREE.items():
        free = gradients[f"gauss_params.{name}"]
        assert (free == 0) == (attribute in attributes), attribute
    before = head.canonical()
    with torch.no_grad():
        for parameter in head.triplane.parameters():
            parameter.add_(torch.rand_like(parameter))
    after = head.canonical()
    for attribute, name in ATTRIBUTES.items():
        same = torch.equal(getattr(before, name), getattr(after, name))
        assert same == (attribute not in attributes), attribute


@pytest.mark.parametrize(("attributes", "opacity"), [(("opacity",), 0.5), ((), 0.3)])
def test_first_opacities_free_or_from_the_planes(attributes: tuple, opacity: float):
    head = make_head(canonical=CanonicalFieldConfig(canonical_attributes=attributes))
    assert head.canonical().opacities.mean().item() == pytest.approx(opacity, abs=0.02)


@pytest.mark.parametrize("switch", ["position", "scale", "rotation", "sh", "opacity"])
def test_table_4_deformed_attributes(switch: str):
    names = {"position": "means", "rotation": "quats", "opacity": "opacity_logits"}
    names |= {"scale": "log_scales", "sh": "sh"}
    head = make_head(deformation=DeformationHeadsConfig(**{switch: False}))
    whole = make_head()
    assert sum(p.numel() for p in head.parameters()) < sum(p.numel() for p in whole.parameters())
    deltas = head.deltas(head.features(), make_condition())
    for attribute, name in names.items():
        assert (getattr(deltas, name) is None) == (attribute == switch)
    gaussians = head.canonical().deformed(deltas)
    still = getattr(gaussians, names[switch])
    assert torch.equal(still, getattr(head.canonical(), names[switch]).expand_as(still))


@pytest.mark.parametrize("token", ["audio", "eye", "viewpoint", "null"])
def test_table_5_conditions(token: str):
    head = make_head(tokens=ConditionTokensConfig(**{token: False}))
    assert token not in head.tokens.names
    assert not any(name.startswith(f"tokens.{token}") for name, _ in head.named_parameters())
    gradients = backward(head)
    for other in head.tokens.names:
        assert sum(v for n, v in gradients.items() if n.startswith(f"tokens.{other}")) > 0
    changed = make_condition()
    if token != "null":
        setattr(changed, token, torch.randn_like(getattr(changed, token)))
        features = head.eval().features()
        first, second = (head.deltas(features, c) for c in (make_condition(), changed))
        assert all(torch.equal(a, b) for a, b in zip(first.present(), second.present()))


@pytest.mark.parametrize("fusion", ["attention", "concat", "multiply"])
def test_the_mouth_hears_only_the_tokens_that_it_should(fusion: str):
    tokens = ConditionTokensConfig(upper_face_only=("eye", "viewpoint"))
    head = make_head(fusion=fusion, tokens=tokens).eval()
    heights = head.gauss_params["means"][:, 1]
    below, above = heights < MOUTH_BORDER[0], heights > MOUTH_BORDER[1]
    assert below.sum() > 5 and above.sum() > 5
    condition, features = make_condition(), head.features()
    deltas = head.deltas(features, condition).means
    for name in ("audio", "eye", "viewpoint"):
        changed = make_condition()
        setattr(changed, name, torch.randn_like(getattr(changed, name)))
        moved = (head.deltas(features, changed).means - deltas).abs().amax(dim=(0, 2))
        assert float(moved[above].min()) > 0
        assert float(moved[below].max()) > 0 if name == "audio" else not moved[below].any()


@pytest.mark.parametrize("fusion", ["attention", "concat", "multiply"])
def test_every_fusion_reaches_every_parameter(fusion: str):
    free = CanonicalFieldConfig(canonical_attributes=())
    head = make_head(fusion=fusion, canonical=free)
    gradients = backward(head)
    # A constant key changes no attention weight: the softmax takes it away.
    silent = {name for name, size in gradients.items() if size == 0 and "key.bias" not in name}
    assert not silent
    maps = head.attention_maps(head.features(), make_condition())
    assert set(maps) == {"audio", "eye", "viewpoint", "null"}
    assert sum(maps.values()).sub(1).abs().max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_of_the_lite_and_the_full_model(layers: int):
    head = make_head(attention=SpatialAudioAttentionConfig(num_layers=layers))
    assert len(head.fusion.layers) == layers


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_degree_sets_the_number_of_bases_everywhere(degree: int):
    head = make_head(sh_degree=degree)
    bases = (degree + 1) ** 2
    assert head.canonical().sh.shape[1] == bases
    deltas = head.deltas(head.features(), make_condition())
    assert deltas.sh is not None and deltas.sh.shape[2] == bases


def test_offsets_start_small():
    head = make_head().eval()
    deltas: GaussianDeltas = head.deltas(head.features(), make_condition())
    assert all(delta.abs().mean() < 0.2 for delta in deltas.present())


def test_tokens_differ_from_frame_to_frame_at_the_start():
    """The scale of the signals decides whether the mouth will ever move."""
    head = make_head().eval()
    tokens = head.tokens(make_condition(64))
    for index, name in enumerate(head.tokens.names):
        if name != "null":
            token = tokens[:, index]
            assert token.std(dim=0).mean() > 0.3 * token.abs().mean(), name


def test_a_batch_is_a_stack_of_singles():
    head = make_head().eval()
    condition = make_condition()
    features = head.features()
    whole = head.deltas(features, condition)
    for index in range(len(condition)):
        single = head.deltas(features, condition[index])
        for one, many in zip(single.present(), whole.present()):
            assert torch.allclose(one[0], many[index], atol=1e-5)


def test_predicted_attributes_are_written_into_the_free_tensors():
    head = make_head()
    head.write_predicted()
    canonical = head.canonical()
    assert torch.equal(head.gauss_params["scales"], canonical.log_scales)
    assert torch.equal(head.gauss_params["opacities"][:, 0], canonical.opacity_logits)


def test_first_sizes_are_those_of_the_gaps():
    grid = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert torch.allclose(neighbour_scales(grid), torch.ones(64))
    assert torch.isfinite(neighbour_scales(torch.zeros(5, 3)).log()).all()


def test_what_frames_share_is_made_again_when_weights_change():
    """Without gradients it is kept; the offsets are those of a head that keeps nothing."""
    attention = SpatialAudioAttentionConfig(
        num_layers=1, dropout=0.0, feed_forward_width=0, form="folded"
    )
    head = make_head(
        attention=attention, deformation=DeformationHeadsConfig(hidden_width=64, joint=True)
    ).eval()
    features, condition = head.features().detach(), make_condition()
    assert head.runs_in_kernels and not make_head().runs_in_kernels

    def offsets() -> torch.Tensor:
        means = head.deltas(features, condition).means
        assert means is not None
        return means.detach()

    with torch.no_grad():
        first = offsets()
        kept = head._precomputed
        assert torch.equal(offsets(), first) and head._precomputed is kept
        head.deformation.hidden.weight.mul_(2.0)
        changed = offsets()
    assert torch.equal(changed, offsets()) and not torch.equal(changed, first)
