"""The loss terms: compiled SSIM against torch's, worked examples, LPIPS and its offline form."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from gaussiantalker_ns import losses
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas
from gaussiantalker_ns.losses import (
    PerceptualLossConfig,
    alpha_mask,
    delta_penalty,
    dssim,
    l1,
    lip_l1,
    ssim,
)
from gaussiantalker_ns.losses import perceptual as perceptual_module
from gaussiantalker_ns.losses.objective import Objective, ObjectiveConfig
from gaussiantalker_ns.losses.perceptual import (
    backbone_path,
    backbone_url,
    gradient_l1,
    halved,
    multiscale_dssim,
)
from gaussiantalker_ns.losses.photometric import (
    cropped_lip_sums,
    masked_lip_sums,
    mean_over_processes,
    ssim_map,
)

# Differences of squares in float32 lose a few digits against float64.
VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 2e-5


def pictures(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A smooth picture and a noisy copy."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, height // 8 + 2, width // 8 + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear").permute(0, 2, 3, 1)
    noise = 0.1 * torch.randn(smooth.shape, generator=generator)
    return (smooth + noise).clamp(0, 1).contiguous(), smooth.contiguous()


@pytest.mark.parametrize("size", [(1, 11, 11), (2, 40, 33), (3, 12, 90), (1, 64, 200)])
def test_compiled_ssim_equals_torch(size: tuple[int, int, int]) -> None:
    noisy, smooth = pictures(*size)
    ours = noisy.clone().requires_grad_()
    value = ssim(ours, smooth)
    (3 * value).backward()
    reference = noisy.double().requires_grad_()
    expected = ssim_map(reference, smooth.double()).mean()
    (3 * expected).backward()
    assert value.item() == pytest.approx(expected.item(), abs=VALUE_TOLERANCE)
    assert ours.grad is not None and reference.grad is not None
    error = (ours.grad - reference.grad).norm() / reference.grad.norm()
    assert float(error) < GRADIENT_TOLERANCE


def test_ssim_reference_loop() -> None:
    """One window of eleven pixels, weighted sums written out."""
    noisy, smooth = pictures(1, 11, 11)
    weights = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5) ** 2)
    window = weights[:, None] * weights / weights.sum() ** 2
    total = 0.0
    for channel in range(3):
        x, y = noisy[0, :, :, channel], smooth[0, :, :, channel]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        vxy = (window * (x - mx) * (y - my)).sum()
        value = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4)
        total += float(value / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))) / 3
    assert ssim(noisy, smooth).item() == pytest.approx(total, abs=VALUE_TOLERANCE)


def test_ssim_of_equal_pictures_is_one_and_flat() -> None:
    picture = pictures(2, 30, 30)[1].requires_grad_()
    value = ssim(picture, picture.detach())
    assert value.item() == pytest.approx(1.0, abs=VALUE_TOLERANCE)
    value.backward()
    assert picture.grad is not None and float(picture.grad.abs().max()) < 1e-6
    assert dssim(picture, picture.detach()).item() == pytest.approx(0.0, abs=VALUE_TOLERANCE)


def test_ssim_is_the_mean_over_the_batch_and_repeatable() -> None:
    noisy, smooth = pictures(3, 25, 31)
    singles = [ssim(noisy[i : i + 1], smooth[i : i + 1]).item() for i in range(3)]
    assert ssim(noisy, smooth).item() == pytest.approx(sum(singles) / 3, abs=1e-6)
    assert ssim(noisy, smooth).item() == ssim(noisy, smooth).item()


def test_ssim_takes_views_of_larger_pictures() -> None:
    noisy, smooth = pictures(2, 40, 40)
    box = slice(3, 35)
    view = ssim(noisy[:, box, box], smooth[:, box, box])
    copy = ssim(noisy[:, box, box].contiguous(), smooth[:, box, box].contiguous())
    assert view.item() == copy.item()
    grey = torch.full((1, 1, 1, 1), 0.5).expand(1, 20, 20, 3)
    assert ssim(grey, grey).item() == pytest.approx(1.0, abs=VALUE_TOLERANCE)


def test_ssim_of_tiny_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="10 x 20 pixels; expected at least 11"):
        ssim(torch.rand(1, 20, 10, 3), torch.rand(1, 20, 10, 3))


def test_l1_and_alpha_mask() -> None:
    assert l1(torch.full((1, 2, 2, 3), 0.75), torch.full((1, 2, 2, 3), 0.5)).item() == 0.25
    alpha = torch.full((1, 2, 2), 0.5, requires_grad=True)
    loss = alpha_mask(alpha, torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]))
    loss.backward()
    assert loss.item() == 0.5
    assert alpha.grad is not None
    assert alpha.grad.tolist() == [[[0.25, -0.25], [-0.25, -0.25]]]


def test_lip_pixels_count_the_same_in_all_frames() -> None:
    """A 2 x 2 box with error 1 and a 4 x 3 box with error 0.5: (4 + 6) / 16; nothing outside."""
    render = torch.zeros(2, 8, 8, 3)
    render[0], render[1] = 1.0, 0.5
    render.requires_grad_()
    boxes = torch.tensor([[0, 0, 2, 2], [4, 5, 20, 20]])
    loss = lip_l1(render, torch.zeros(2, 8, 8, 3), boxes)
    loss.backward()
    assert loss.item() == pytest.approx(10 / 16)
    assert render.grad is not None
    assert int(render.grad.ne(0).sum()) == 3 * 16
    assert bool((render.grad[1, 5:, 4:] > 0).all())


def test_alone_the_mean_over_processes_is_the_mean() -> None:
    """To the last bit: the CPU preset's figures are those of runs before processes counted."""
    render = torch.rand(3, 40, 40, 3, requires_grad=True)
    target = torch.rand(3, 40, 40, 3)
    boxes = torch.tensor([[5, 5, 30, 30], [6, 8, 19, 21], [1, 2, 34, 36]])
    parts = [
        (render[i, y0:y1, x0:x1] - target[i, y0:y1, x0:x1]).abs().flatten()
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist())
    ]
    expected = torch.cat(parts).mean()
    found = lip_l1(render, target, boxes)
    assert found.item() == expected.item()
    gradients = [torch.autograd.grad(value, render)[0] for value in (found, expected)]
    assert torch.equal(*gradients)


def test_processes_share_one_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of 3 and 1 over 2 and 6 pixels: 4 / 8 here, and twice 1 / 8 as the gradient, because
    DistributedDataParallel will halve it."""

    def add_the_other(sums: Tensor) -> None:
        sums += torch.tensor([1.0, 6.0])

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", add_the_other)
    total = torch.tensor(3.0, requires_grad=True)
    mean = mean_over_processes(total, torch.tensor(2.0))
    mean.backward()
    assert mean.item() == 0.5
    assert total.grad is not None and total.grad.item() == 2 / 8
    with torch.no_grad():
        assert mean_over_processes(total, torch.tensor(2.0)).item() == 1.5


def test_lips_outside_the_picture_are_no_error() -> None:
    render = torch.rand(1, 8, 8, 3, requires_grad=True)
    loss = lip_l1(render, torch.zeros(1, 8, 8, 3), torch.tensor([[9, 9, 12, 12]]))
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize(
    "boxes",
    [[[0, 0, 2, 2], [4, 5, 20, 20]], [[-3, 2, 4, 6], [7, 0, 8, 8]], [[9, 9, 12, 12], [1, 1, 1, 5]]],
)
def test_lips_on_a_gpu_are_those_on_a_cpu(boxes: list[list[int]]) -> None:
    """Boxes inside, across the border, and with nothing inside the picture."""
    target = torch.rand(2, 8, 8, 3)
    renders = [torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0)) for _ in "ab"]
    values = []
    for form, render in zip((cropped_lip_sums, masked_lip_sums), renders):
        total, count = form(render.requires_grad_(), target, torch.tensor(boxes))
        total.backward()
        values.append((total.item(), count.item()))
    assert values[0] == pytest.approx(values[1])
    assert renders[0].grad is not None and renders[1].grad is not None
    assert torch.allclose(renders[0].grad, renders[1].grad)


def test_delta_penalty_adds_the_attributes() -> None:
    deltas = GaussianDeltas(
        means=torch.full((1, 2, 3), -0.5), opacity_logits=torch.full((1, 2), 0.25)
    )
    assert delta_penalty(deltas).item() == 0.75
    assert delta_penalty(GaussianDeltas()).item() == 0.0


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of torch.hub; what should lie in it is the test's business."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def random_alexnet(path: Path) -> None:
    """Random weights in torchvision's form stand for the trained ones."""
    from torchvision.models import alexnet

    torch.save(alexnet(weights=None).state_dict(), path)


def test_the_offline_form_needs_no_weights(hub: Path) -> None:
    perceptual = PerceptualLossConfig(network="ms-ssim").setup()
    assert perceptual.name == "ms-ssim+gradient"
    perceptual.prepare("cpu")
    noisy, smooth = pictures(1, 48, 48)
    noisy.requires_grad_()
    perceptual(noisy, smooth).backward()
    assert noisy.grad is not None and noisy.grad.any()
    assert perceptual(smooth, smooth).item() == pytest.approx(0.0, abs=VALUE_TOLERANCE)
    assert not hub.exists()


def test_lpips_is_fetched_by_torchvision(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def serve(url: str, path: str, *arguments: object, **options: object) -> None:
        asked.append(url)
        random_alexnet(Path(path))

    monkeypatch.setattr(torch.hub, "download_url_to_file", serve)
    perceptual = PerceptualLossConfig().setup()
    assert perceptual.name == "lpips-alex" and not asked
    state = torch.get_rng_state()
    perceptual.prepare("cpu")
    assert torch.equal(torch.get_rng_state(), state), "loading must not change the training"
    assert asked == [backbone_url("alex")] and backbone_path("alex").parent == hub
    noisy, smooth = pictures(2, 64, 64)
    noisy.requires_grad_()
    loss = perceptual(noisy, smooth)
    loss.backward()
    assert noisy.grad is not None and noisy.grad.any() and loss.item() > 0
    assert perceptual(smooth, smooth).item() == pytest.approx(0.0, abs=1e-6)
    PerceptualLossConfig().setup().prepare("cpu")
    assert len(asked) == 1, "the second time it lies in the hub's folder"


def test_without_network_the_training_stops_with_all_ways_out(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str, *arguments: object, **options: object) -> None:
        raise URLError("no route to host\nsecond line")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    for backbone, name in (("alex", "alexnet-owt-7be5be79.pth"), ("vgg", "vgg16-397923af.pth")):
        with pytest.raises(FileNotFoundError) as caught:
            PerceptualLossConfig(network=backbone).setup().prepare("cpu")
        said = str(caught.value)
        assert str(hub / name) in said and f"fetching {backbone_url(backbone)} failed" in said
        assert "no route to host" in said and "second line" not in said
        assert said.endswith("--pipeline.model.objective.perceptual-loss.network ms-ssim.")


def test_damaged_weights_are_named(hub: Path) -> None:
    hub.mkdir()
    (hub / "alexnet-owt-7be5be79.pth").write_bytes(b"not the weights")
    with pytest.raises(FileNotFoundError, match="but the file there cannot be used"):
        PerceptualLossConfig().setup().prepare("cpu")


def test_lpips_is_prepared_at_its_first_use_at_the_latest(hub: Path) -> None:
    hub.mkdir()
    random_alexnet(hub / "alexnet-owt-7be5be79.pth")
    noisy, smooth = pictures(1, 64, 64)
    late, early = PerceptualLossConfig().setup(), PerceptualLossConfig().setup()
    early.prepare("cpu")
    assert late(noisy, smooth).item() == early(noisy, smooth).item()


def test_the_log_names_the_form_and_the_finest_scale_is_compared_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy, smooth = pictures(1, 48, 48)
    noisy.requires_grad_()
    offline = PerceptualLossConfig(network="ms-ssim")
    expected = offline.setup()(noisy, smooth)
    (wanted,) = torch.autograd.grad(0.2 * dssim(noisy, smooth) + 0.01 * expected, noisy)
    sizes = []

    def counted(prediction: Tensor, target: Tensor) -> Tensor:
        sizes.append(prediction.shape[1])
        return dssim(prediction, target)

    for module in (losses, perceptual_module):
        monkeypatch.setattr(module, "dssim", counted)
    batch = {"image": smooth, "head_mask": torch.ones(1, 48, 48)}
    objective = Objective(ObjectiveConfig(perceptual_loss=offline), 48 * 48)
    objective.prepare("cpu")
    terms = objective(noisy, torch.ones(1, 48, 48, 1), None, batch)
    assert set(terms) == {"l1", "dssim", "mask", "ms-ssim+gradient"}
    assert sizes == [48, 24, 12]
    assert terms["ms-ssim+gradient"].item() == pytest.approx(0.01 * expected.item())
    (found,) = torch.autograd.grad(terms["dssim"] + terms["ms-ssim+gradient"], noisy)
    assert torch.allclose(found, wanted, atol=1e-8)


def test_without_a_perceptual_term_nothing_is_prepared(hub: Path) -> None:
    objective = Objective(ObjectiveConfig(perceptual=0.0), 48 * 48)
    objective.prepare("cpu")
    assert objective.perceptual is None and not hub.exists()


def test_halving_and_steps_by_hand() -> None:
    """[[1, 2], [3, 6]] averages to 3; its steps are 2, 4 down and 1, 3 across."""
    image = torch.tensor([[1.0, 2.0], [3.0, 6.0]])[None, ..., None].expand(1, 2, 2, 3)
    assert halved(image).tolist() == [[[[3.0] * 3]]]
    assert gradient_l1(image, torch.zeros(1, 2, 2, 3)).item() == 5.0
    assert multiscale_dssim(image, image).item() == 0.0
