"""Each measure against another implementation or a case computed by hand."""

import base64
import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance

from gaussiantalker_ns.face.landmarker import Face
from gaussiantalker_ns.face.topology import LOWER_BLENDSHAPES, STABLE_POINTS, UPPER_BLENDSHAPES
from gaussiantalker_ns.losses.perceptual import load_lpips
from gaussiantalker_ns.metrics.aue import UNITS, action_unit_errors, read_openface
from gaussiantalker_ns.metrics.csim import (
    FACE_POINTS,
    IdentitySimilarity,
    aligned_face,
    cosine,
)
from gaussiantalker_ns.metrics.face_motion import (
    FaceTrack,
    blendshape_error,
    correlations_at_best_lag,
    landmark_jitter,
    lip_lag_ms,
    motion_values,
)
from gaussiantalker_ns.metrics.frame_pairs import FramePair
from gaussiantalker_ns.metrics.image import psnr, ssim
from gaussiantalker_ns.metrics.lmd import FanDistance, mouth_distance
from gaussiantalker_ns.metrics.perceptual import FrechetDistance, ImageFidelity, Lpips, masked_ssim
from gaussiantalker_ns.metrics.registry import NotMeasured, require_weights

FLOAT32 = 1e-4
"""Single precision over a few thousand pixels."""

MEAN_COLOR_ONNX = (
    "CAY6YQoZCgF4EgFtIhFHbG9iYWxBdmVyYWdlUG9vbAoPCgFtEgFlIgdGbGF0dGVuEgFnWhsKAXgSFgoUCAESEAoCCAEKAgg"
    "DCgIIcAoCCHBiEwoBZRIOCgwIARIICgIIAQoCCANCBAoAEAs="
)
"""A network of 107 bytes whose embedding is the mean colour: GlobalAveragePool, then Flatten."""


def noisy_pair(seed: int = 0, size: int = 96, noise: float = 0.1, **more) -> FramePair:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, size // 8, size // 8, generator=generator)
    real = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    real = real[0].permute(1, 2, 0).clamp(0, 1).contiguous()
    rendered = (real + noise * torch.randn(real.shape, generator=generator)).clamp(0, 1)
    return FramePair(seed, rendered, real, **more)


def face_at(points: dict[int, tuple[float, float]]) -> Face:
    landmarks = np.zeros((478, 3), np.float32)
    for index, (x, y) in points.items():
        landmarks[index, :2] = x, y
    return Face(landmarks, np.zeros(52, np.float32))


def test_psnr_and_ssim_equal_those_of_scikit_image_and_torchmetrics():
    pair = noisy_pair()
    rendered, real = pair.rendered.numpy(), pair.real.numpy()
    expected = peak_signal_noise_ratio(real, rendered, data_range=1)
    assert psnr(pair.rendered, pair.real) == pytest.approx(expected, abs=FLOAT32)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, full = structural_similarity(
        real, rendered, data_range=1, channel_axis=2, full=True, **options
    )
    value = ssim(pair.rendered, pair.real)
    assert value == pytest.approx(full[5:-5, 5:-5].mean(), abs=FLOAT32)
    batches = (image.permute(2, 0, 1)[None] for image in (pair.rendered, pair.real))
    _, padded = structural_similarity_index_measure(
        *batches, data_range=1.0, return_full_image=True
    )
    assert value == pytest.approx(padded[..., 5:-5, 5:-5].mean().item(), abs=FLOAT32)


def test_masked_ssim_weights_the_windows():
    pair = noisy_pair()
    everywhere = torch.ones(96, 96)
    whole = masked_ssim(pair.rendered, pair.real, everywhere)
    assert whole == pytest.approx(ssim(pair.rendered, pair.real), abs=FLOAT32)
    left = everywhere.clone()
    left[:, 48:] = 0
    half_right = pair.real.clone()
    half_right[:, 60:] = pair.rendered[:, 60:]
    assert masked_ssim(half_right, pair.real, left) == pytest.approx(1, abs=FLOAT32)
    assert np.isnan(masked_ssim(pair.rendered, pair.real, torch.zeros(96, 96)))


def test_regions_hold_what_they_say():
    mask = torch.zeros(96, 96)
    mask[10:50, 20:60] = 1.0
    mask[10, 20] = 0.2
    pair = noisy_pair(boxes={"face": (5, 6, 45, 66)}, head_mask=mask)
    assert set(pair.regions) == {"face", "head", "frame"}
    assert pair.regions["face"][0].shape == (60, 40, 3)
    rendered, real = pair.regions["head"]
    assert rendered.shape == (40, 40, 3)
    assert torch.equal(rendered[0, 0], real[0, 0])
    assert torch.equal(rendered[5, 5], pair.rendered[15, 25])
    assert set(noisy_pair().regions) == {"frame"}


def test_image_fidelity_is_perfect_on_equal_pictures_and_falls_with_blur():
    mask = torch.zeros(96, 96)
    mask[10:80, 20:80] = 1.0
    boxes = {"face": (20, 20, 70, 80), "lips": (30, 60, 60, 80)}
    clean = noisy_pair(boxes=boxes, head_mask=mask)
    equal = ImageFidelity().observe(FramePair(0, clean.real, clean.real, boxes, mask))
    assert all(value == pytest.approx(100 if "psnr" in key else 1) for key, value in equal.items())
    assert {"face_ssim", "head_ssim", "ssim", "head_psnr", "lips_psnr"} <= set(equal)
    blurs = [
        torch.from_numpy(cv2.GaussianBlur(clean.real.numpy(), (0, 0), sigma)) for sigma in (1, 4)
    ]
    little, much = (
        ImageFidelity().observe(FramePair(0, b, clean.real, boxes, mask)) for b in blurs
    )
    assert all(equal[key] > little[key] > much[key] for key in equal)


@pytest.fixture
def lpips_weights(tmp_path, monkeypatch):
    """Random weights in torchvision's form stand for the trained ones."""
    from torchvision.models import alexnet

    torch.manual_seed(3)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir()
    torch.save(alexnet(weights=None).state_dict(), path)
    return path


@pytest.mark.usefixtures("lpips_weights")
def test_lpips_is_that_of_the_lpips_package_in_every_region():
    boxes, mask = {"face": (10, 10, 80, 90)}, torch.zeros(96, 96)
    mask[20:70, 20:80] = 1.0
    pair = noisy_pair(boxes=boxes, head_mask=mask)
    found = Lpips.load("cpu").observe(pair)
    network = load_lpips("alex")
    for key, region in (("face_lpips", "face"), ("head_lpips", "head"), ("lpips", "frame")):
        pictures = (image.permute(2, 0, 1)[None] for image in pair.regions[region])
        expected = network(*pictures, normalize=True).item()
        assert found[key] == pytest.approx(expected, rel=1e-4) and expected > 0
    equal = Lpips.load("cpu").observe(FramePair(0, pair.real, pair.real, boxes, mask))
    assert all(value == pytest.approx(0, abs=1e-6) for value in equal.values())


def test_damaged_lpips_weights_leave_the_measure_out(lpips_weights):
    lpips_weights.write_bytes(b"half a file")
    with pytest.raises(NotMeasured, match="the file there cannot be used"):
        Lpips.load("cpu")


class MeanColor(torch.nn.Module):
    """Stands in for the Inception network: three features a picture."""

    num_features = 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(2, 3))


def frechet() -> FrechetDistance:
    return FrechetDistance(lambda: FrechetInceptionDistance(feature=MeanColor()))


def test_frechet_distance_follows_its_formula():
    distance = frechet()
    features = {"rendered": [], "real": []}
    for seed in range(12):
        pair = noisy_pair(seed, noise=0.3)
        assert distance.observe(pair) == {}
        features["rendered"].append(pair.rendered_pixels.mean(axis=(0, 1)))
        features["real"].append(pair.real_pixels.mean(axis=(0, 1)))
    a, b = (np.array(features[name]) for name in ("rendered", "real"))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = sqrtm(cov_a @ cov_b).real
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected = shift + np.trace(cov_a + cov_b - 2 * root)
    assert distance.values() == {"fid": pytest.approx(expected, rel=1e-3)}


def test_frechet_distance_is_built_on_another_device(monkeypatch: pytest.MonkeyPatch):
    """The network moves before the distances are made, and is shown nothing in main memory."""

    class Inception(torch.nn.Module):
        def __init__(self, *arguments: object) -> None:
            super().__init__()
            self.register_buffer("weight", torch.ones(3, 2048))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.device == self.weight.device
            return images.float().mean(dim=(2, 3)) @ self.weight

    module = "gaussiantalker_ns.metrics.perceptual"
    monkeypatch.setattr(f"{module}.require_weights", lambda *names, **options: Path("weights"))
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Inception)
    distance = FrechetDistance.load("meta")
    picture = torch.rand(40, 40, 3, device="meta")
    assert distance.observe(FramePair(0, picture, picture)) == {}


def test_frechet_distance_of_equal_videos_is_zero():
    distance = frechet()
    for seed in range(4):
        real = noisy_pair(seed).real
        distance.observe(FramePair(seed, real, real, {"face": (0, 0, 50, 50)}))
    # The square root of a covariance of variance 100 is exact to its single precision.
    assert distance.values() == {key: pytest.approx(0, abs=1e-2) for key in ("face_fid", "fid")}


def test_fan_distance_by_hand():
    real = np.random.default_rng(0).uniform(0, 100, (68, 2))
    assert mouth_distance(real, real) == 0
    moved = real + 7.0
    assert mouth_distance(moved, real) == pytest.approx(0, abs=1e-9)
    # One of 20 points moves by 20 px: it keeps 19 px of that, the others get 1 px.
    moved[48, 0] += 20
    assert mouth_distance(moved, real) == pytest.approx((19 + 19 * 1) / 20)


def test_fan_distance_takes_the_largest_face():
    small, large = np.zeros((68, 2)), np.linspace(0, 50, 136).reshape(68, 2)

    class Detector:
        def get_landmarks(self, image):
            return [small, large] if image.mean() > 10 else None

    bright, dark = torch.full((8, 8, 3), 0.5), torch.zeros(8, 8, 3)
    metric = FanDistance(Detector())
    assert metric.observe(FramePair(0, bright, bright)) == {"lmd": 0.0}
    assert metric.observe(FramePair(0, dark, bright)) == {}


def test_action_unit_errors_by_hand(tmp_path):
    real = np.zeros((3, 17))
    rendered = real.copy()
    rendered[:, UNITS.index("AU25")] = [0.0, 1.0, 2.0]  # Mean square 5/3, lower face.
    rendered[:, UNITS.index("AU45")] = 3.0  # Mean square 9, upper face.
    expected = {"aue": 9 + 5 / 3, "aue_lower": 5 / 3, "aue_upper": 9.0}
    assert action_unit_errors(rendered, real) == pytest.approx(expected)
    assert action_unit_errors(real, real) == {"aue": 0, "aue_lower": 0, "aue_upper": 0}
    with pytest.raises(ValueError, match="2 and 3 rows"):
        action_unit_errors(rendered[:2], real)


def test_openface_tables_with_blanks_in_the_header(tmp_path):
    path = tmp_path / "render.csv"
    columns = ["frame", "success", *(f"{unit}_r" for unit in UNITS)]
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow([f" {name}" for name in columns])
        writer.writerow([1, 1, *[" 0.5"] * 17])
        writer.writerow([2, 0, *[" 0.0"] * 17])
    values = read_openface(path)
    assert values.shape == (2, 17)
    assert (values[0] == 0.5).all() and np.isnan(values[1]).all()
    assert action_unit_errors(values, values)["aue"] == 0
    path.write_text("frame, success\n1, 1\n")
    with pytest.raises(ValueError, match="lacks the column AU01_r"):
        read_openface(path)
    with pytest.raises(FileNotFoundError, match="No OpenFace table"):
        read_openface(tmp_path / "none.csv")


def test_jitter_by_hand():
    points = np.zeros((4, 478, 2), np.float32)
    points[:, list(STABLE_POINTS), 0] = np.array([0.0, 0, 1, 1])[:, None]
    assert landmark_jitter(points, [5, 6, 7, 8]) == pytest.approx(1)
    steady = points.copy()
    steady[:, list(STABLE_POINTS), 0] = np.array([0.0, 2, 4, 6])[:, None]
    assert landmark_jitter(steady, [5, 6, 7, 8]) == 0
    # Frames 6 and 8 are no neighbours: only 7, 8, 9 of these could count, and 7 is not there.
    assert np.isnan(landmark_jitter(points, [5, 6, 8, 9]))


def speaking_track(opening: np.ndarray) -> FaceTrack:
    """Faces whose outer eye corners are 10 px apart; the mouth's width moves with its opening."""
    faces = [
        face_at({263: (10, 0), 14: (0, value), 291: (4 + value, 0)}) for value in opening.tolist()
    ]
    return FaceTrack(list(range(len(faces))), list(faces))


def test_lip_lag_by_hand():
    opening = np.random.default_rng(0).uniform(0, 3, 52)
    real = speaking_track(opening[:50])
    two_frames_early = speaking_track(opening[2:])
    assert lip_lag_ms(real, real) == pytest.approx(0, abs=4)
    assert lip_lag_ms(two_frames_early, real) == pytest.approx(-80, abs=4)
    assert lip_lag_ms(real, two_frames_early) == pytest.approx(80, abs=4)
    assert np.isnan(lip_lag_ms(speaking_track(np.ones(50)), real))
    assert np.isnan(lip_lag_ms(speaking_track(opening[:20]), real))


def test_late_sound_of_a_clip_costs_no_correlation_at_the_best_lag():
    opening = np.abs(np.random.default_rng(3).standard_normal(60)) + 0.1
    real = speaking_track(opening)
    assert correlations_at_best_lag(real, real)[0] == pytest.approx(1.0)
    three_frames_early = speaking_track(opening[3:])
    assert correlations_at_best_lag(three_frames_early, real)[0] == pytest.approx(1.0)
    eight_frames_early = speaking_track(opening[8:])
    assert correlations_at_best_lag(eight_frames_early, real)[0] < 0.6
    assert np.isnan(correlations_at_best_lag(speaking_track(opening[:20]), real)).all()


def test_blendshape_errors_by_hand():
    real = np.zeros((2, 52), np.float32)
    rendered = real.copy()
    rendered[0, LOWER_BLENDSHAPES[0]] = 0.27
    assert blendshape_error(rendered, real, LOWER_BLENDSHAPES) == pytest.approx(0.27 / 27 / 2)
    assert blendshape_error(rendered, real, UPPER_BLENDSHAPES) == 0
    rendered[1] = np.nan
    assert blendshape_error(rendered, real, LOWER_BLENDSHAPES) == pytest.approx(0.27 / 27)
    assert not set(LOWER_BLENDSHAPES) & set(UPPER_BLENDSHAPES)


def test_a_track_without_faces_has_no_figures():
    lost = FaceTrack([0, 1, 2], [None, None, None])
    values = motion_values(lost, lost)
    assert values.pop("lips_num_frames") == 0
    assert all(np.isnan(value) for value in values.values())


def test_cosine_by_hand():
    assert cosine(np.array([1.0, 0]), np.array([1.0, 1])) == pytest.approx(0.5**0.5)


def test_faces_are_aligned_for_the_network():
    image = np.zeros((200, 200, 3), np.uint8)
    places = [(80.0, 80.0), (120.0, 80.0), (100.0, 105.0), (84.0, 130.0), (116.0, 130.0)]
    for x, y in places:
        cv2.circle(image, (int(x), int(y)), 4, (255, 255, 255), -1)
    face = face_at(dict(zip(FACE_POINTS, places)))
    aligned = aligned_face(image, face)
    assert aligned.shape == (112, 112, 3)
    # The left eye of a frontal face lies near (38, 52), the nose near (56, 72).
    assert aligned[52, 38].min() > 100 and aligned[72, 56].min() > 100
    assert aligned[10, 10].max() == 0


@pytest.mark.parametrize("kind", ["onnx", "pt"])
def test_csim_runs_the_network_it_is_given(tmp_path, kind):
    path = tmp_path / f"network.{kind}"
    if kind == "onnx":
        path.write_bytes(base64.b64decode(MEAN_COLOR_ONNX))
    else:
        torch.jit.trace(MeanColor(), torch.zeros(1, 3, 112, 112)).save(str(path))
    corners = [(20.0, 20.0), (60.0, 20.0), (40.0, 45.0), (24.0, 70.0), (56.0, 70.0)]
    face = face_at(dict(zip(FACE_POINTS, corners)))
    red, green = torch.zeros(96, 96, 3), torch.zeros(96, 96, 3)
    red[..., 0] = green[..., 1] = 1.0
    metric = IdentitySimilarity.load(path, "cpu")
    same = FramePair(0, red, red, rendered_face=face, real_face=face)
    other = FramePair(0, green, red, rendered_face=face, real_face=face)
    assert metric.observe(same)["csim"] == pytest.approx(1)
    # In [-1, 1] red is about (1, -1, -1) and green (-1, 1, -1), up to the border of the picture.
    assert metric.observe(other)["csim"] < 0.5
    assert metric.observe(FramePair(0, red, red, real_face=face)) == {}


def test_csim_refuses_what_is_no_network(tmp_path):
    with pytest.raises(FileNotFoundError, match="Check --csim-model"):
        IdentitySimilarity.load(tmp_path / "none.onnx", "cpu")
    for name in ("bad.onnx", "bad.pt"):
        (tmp_path / name).write_bytes(b"no network")
        with pytest.raises(ValueError, match="cannot be read as"):
            IdentitySimilarity.load(tmp_path / name, "cpu")


def test_weights_are_found_checked_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(NotMeasured, match=r"needs the weights, put it at .*checkpoints.*net\.pth"):
        require_weights("net.pth", "the weights")
    path = tmp_path / "checkpoints" / "net.pth"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    assert require_weights("net.pth", "the weights", "ba7816bf") == path  # sha256 of "abc".
    with pytest.raises(NotMeasured, match="another one, or damaged"):
        require_weights("net.pth", "the weights", "00000000")
