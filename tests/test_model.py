"""The model between cameras and network: frames, outputs, overrides, configurations."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.splatfacto import SplatfactoModel
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config

from gaussiantalker_ns.config import gaussiantalker, gaussiantalker_cpu, gaussiantalker_lite
from gaussiantalker_ns.engine.optimizers import Stage
from gaussiantalker_ns.model import GaussianTalkerModel, GaussianTalkerModelConfig
from gaussiantalker_ns.model_outputs import LazyOutputs

NUM_FRAMES = 22


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("talker")
    data = write_synthetic_talker(folder / "data", num_frames=NUM_FRAMES)
    torch.manual_seed(0)
    built = small_config(data, folder, 0, 4).pipeline.setup(device="cpu", test_mode="test")
    return built.eval()


@pytest.fixture()
def model(pipeline) -> GaussianTalkerModel:
    model = pipeline.model.eval()
    model.viewer_frame = None
    model.crop_box = None
    model.bank.set_audio(None)
    return model


@pytest.fixture()
def camera(pipeline) -> Cameras:
    return pipeline.datamanager.eval_dataset.cameras[0:1]


def without_frame(camera: Cameras, times: float | None = None) -> Cameras:
    return Cameras(
        camera.camera_to_worlds,
        camera.fx,
        camera.fy,
        camera.cx,
        camera.cy,
        width=camera.width,
        height=camera.height,
        times=None if times is None else torch.tensor([[times]]),
    )


def test_it_counts_as_gaussians_and_builds_no_downloaded_metric(model: GaussianTalkerModel):
    assert isinstance(model, SplatfactoModel)
    assert not any("lpips" in name.lower() for name, _ in model.named_modules())


def test_frames_by_metadata_then_override_then_time_then_the_first(model, camera: Cameras):
    named = int(camera.metadata["frame"])
    timed, bare = without_frame(camera, times=1.0), without_frame(camera)
    assert model.frames_of(camera).tolist() == [named]
    assert model.frames_of(timed).tolist() == [NUM_FRAMES - 1]
    assert model.frames_of(bare).tolist() == [0]
    model.viewer_frame = 5
    assert model.frames_of(camera).tolist() == [named]
    assert model.frames_of(timed).tolist() == [5]
    assert model.frames_of(bare).tolist() == [5]


def test_times_follow_replaced_audio(model, camera: Cameras):
    model.bank.set_audio(torch.zeros(101, 2, 384))
    assert model.frames_of(without_frame(camera, times=0.5)).tolist() == [50]
    rgb = model.get_outputs_for_camera(without_frame(camera, times=0.9))["rgb"]
    assert torch.isfinite(rgb).all()


def test_outputs_of_one_camera_have_no_batch_axis(model, camera: Cameras):
    outputs = model.get_outputs_for_camera(camera)
    names = {"rgb", "head", "accumulation", "depth", "canonical", "background"}
    names |= {f"attention_{token}" for token in ("audio", "eye", "viewpoint", "null")}
    assert set(outputs) == names
    for name, picture in outputs.items():
        channels = 3 if name in ("rgb", "head", "canonical", "background") else 1
        assert picture.shape == (64, 64, channels), name
        assert torch.isfinite(picture).all(), name
        if name != "depth":
            assert 0 <= picture.min() and picture.max() <= 1, name
    assert 4 < outputs["depth"].min() < 12


def test_a_batch_of_cameras_is_a_stack_of_singles(pipeline, model):
    cameras = pipeline.datamanager.train_dataset.cameras[2:5]
    with torch.no_grad():
        many = model.get_outputs(cameras)
        for index in range(3):
            one = model.get_outputs(cameras[index : index + 1])
            for name in ("rgb", "accumulation", "attention_audio"):
                assert torch.allclose(many[name][index], one[name], atol=1e-5), name


def test_the_frames_own_camera_sees_its_own_background(pipeline, model, camera: Cameras):
    _, batch = pipeline.datamanager.fixed_indices_eval_dataloader[0]
    outputs = model.get_outputs_for_camera(camera)
    assert torch.allclose(outputs["background"], batch["background"].float() / 255)


def test_a_camera_beside_the_head_sees_the_torso_moved(model, camera: Cameras):
    moved = without_frame(camera)
    moved.camera_to_worlds = moved.camera_to_worlds.clone()
    moved.camera_to_worlds[0, :, 3] += 2.0 * moved.camera_to_worlds[0, :, 0]
    outputs = model.get_outputs_for_camera(moved)
    assert torch.isfinite(outputs["rgb"]).all()
    own = model.get_outputs_for_camera(without_frame(camera))
    assert (outputs["background"] - own["background"]).abs().mean() > 0.01


def test_the_blink_override_changes_the_picture(model, camera: Cameras):
    pictures = []
    for blink in (0.0, 1.0):
        model.bank.overrides.blink = blink
        pictures.append(model.get_outputs_for_camera(camera)["rgb"])
    model.bank.overrides.blink = None
    assert not torch.equal(*pictures)


def test_the_crop_box_hides_what_is_outside(model, camera: Cameras):
    whole = model.get_outputs_for_camera(camera)["accumulation"].sum()
    box = OrientedBox.from_params((0.0, 5.0, 0.0), (0.0, 0.0, 0.0), (20.0, 10.0, 20.0))
    upper = model.get_outputs_for_camera(camera, obb_box=box)["accumulation"].sum()
    assert 0.1 * whole < upper < 0.9 * whole


def test_paste_back_shows_the_source_outside_the_head(pipeline, model, camera: Cameras):
    _, batch = pipeline.datamanager.fixed_indices_eval_dataloader[0]
    model.background.mode = "paste-back"
    rgb = model.get_outputs_for_camera(camera)["rgb"]
    model.background.mode = "layer"
    outside = batch["head_mask"] == 0
    outside[:, :48] = False
    source = batch["image"].float() / 255
    assert (rgb - source)[outside].abs().max() < 0.02


def seen(camera: Cameras, turn: float = 0.0, zoom: float = 1.0) -> Cameras:
    """The camera after a walk around the head, which stays where it is in the picture."""
    cos, sin = math.cos(turn), math.sin(turn)
    around = torch.tensor([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    numbers = (camera.fx * zoom, camera.fy * zoom, camera.cx, camera.cy, camera.width)
    poses = around @ camera.camera_to_worlds
    return Cameras(poses, *numbers, camera.height, metadata=camera.metadata)


@pytest.mark.parametrize("change", [{"turn": 0.05}, {"zoom": 1.02}])
def test_paste_back_leaves_other_views_alone(model, camera: Cameras, change: dict[str, float]):
    pictures = {}
    for mode in ("layer", "paste-back"):
        model.background.mode = mode
        pictures[mode] = [
            model.get_outputs_for_camera(each)["rgb"]
            for each in (seen(camera), seen(camera, **change))
        ]
    model.background.mode = "layer"
    own, other = zip(pictures["layer"], pictures["paste-back"])
    assert not torch.equal(*own)
    assert torch.equal(*other)


def test_views_have_the_cameras_intrinsics(pipeline, model):
    cameras = pipeline.datamanager.train_dataset.cameras[0:3]
    views = model.views_of(cameras)
    assert torch.equal(views.Ks, cameras.get_intrinsics_matrices())
    assert (views.width, views.height) == (64, 64)
    assert model.views_of(cameras, (5, 7)).width == 5


def test_colours_for_the_exporter_are_coefficients_in_every_degree(model):
    """Splatfacto takes a sigmoid at degree 0. The coefficient 1 is the colour .5 + .282."""
    degree, colours = model.config.head.sh_degree, model.gauss_params["features_dc"].data.clone()
    model.config.head.sh_degree = 0
    model.gauss_params["features_dc"].data.fill_(1.0)
    model._cached_canonical = None
    try:
        assert torch.equal(model.shs_0, torch.ones_like(colours))
        assert torch.allclose(model.colors, torch.full_like(colours, 0.78209479))
    finally:
        model.config.head.sh_degree = degree
        model.gauss_params["features_dc"].data.copy_(colours)
        model._cached_canonical = None


def test_the_mean_head_is_shown_in_the_canonical_stage(model, camera: Cameras):
    model.stage = Stage.CANONICAL
    outputs = model.get_outputs_for_camera(camera)
    assert torch.equal(outputs["rgb"], outputs["canonical"])
    model.stage = Stage.DEFORMATION
    outputs = model.get_outputs_for_camera(camera)
    assert not torch.equal(outputs["rgb"], outputs["canonical"])


def test_rgba_is_the_head_alone(model, camera: Cameras):
    rgba = model.get_rgba_image(model.get_outputs_for_camera(camera))
    assert rgba.shape == (64, 64, 4)
    assert rgba[0, 0, 3] == 0


def test_lazy_outputs_are_made_once_and_only_when_read():
    calls = []

    def make() -> torch.Tensor:
        calls.append(1)
        return torch.ones(1, requires_grad=True) * 2

    outputs = LazyOutputs(rgb=torch.zeros(1)).add_lazy("depth", make)
    assert list(outputs) == ["rgb", "depth"]
    assert not calls
    assert not outputs["depth"].requires_grad
    assert outputs["depth"] is outputs.get("depth")
    assert len(calls) == 1
    assert dict(outputs.items()).keys() == {"rgb", "depth"}
    assert outputs.get("nothing") is None


@pytest.mark.parametrize("method", [gaussiantalker, gaussiantalker_lite, gaussiantalker_cpu])
def test_configurations_survive_yaml(method):
    restored = yaml.load(yaml.dump(method.config), Loader=yaml.Loader)
    assert restored == method.config


def test_methods_differ_in_their_layers():
    layers = [
        method.config.pipeline.model.head.attention.num_layers
        for method in (gaussiantalker, gaussiantalker_lite, gaussiantalker_cpu)
    ]
    assert layers == [2, 1, 1]


@pytest.mark.parametrize("method", [gaussiantalker, gaussiantalker_lite])
def test_the_papers_methods_read_colour_and_opacity_from_the_planes(method):
    """As the public code's configurations; predicted scales would not shrink in a split."""
    canonical = method.config.pipeline.model.head.canonical
    assert canonical.canonical_attributes == ("sh", "opacity")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_opacity": 0.0}, "initial_opacity is 0.0; expected a number above 0 and below 1"),
        ({"viewpoint_gain": 0.0}, "viewpoint_gain is 0.0; expected a factor above 0"),
        ({"initial_opacity": 1.0}, "initial_opacity is 1.0; expected a number above 0 and below 1"),
        ({"sh_degree_interval": 0}, "sh_degree_interval is 0; expected at least 1 step"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        GaussianTalkerModelConfig(**settings)


def test_gaussians_may_model_the_whole_person(tmp_path: Path):
    data = write_synthetic_talker(tmp_path / "data")
    config = small_config(data, tmp_path, 1, 2)
    config.pipeline.model.torso_mode = "gaussians"
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    _, batch = pipeline.datamanager.next_train(0)
    background = pipeline.model.background.layers.background_behind(0)[0, 0]
    assert (batch["background"].float() - background.float()).abs().max() < 12
    assert batch["head_mask"].shape[1] > 50


def test_configuration_from_before_the_articulation_code_reads_raw_features():
    state = dict(vars(GaussianTalkerModelConfig()))
    del state["articulation"]
    config = GaussianTalkerModelConfig.__new__(GaussianTalkerModelConfig)
    config.__setstate__(state)
    assert not config.articulation.enabled
