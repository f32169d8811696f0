"""Every Nerfstudio command on a small trained head, as a user would run it, in one process."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from synthetic_talker import write_synthetic_talker
from talker_runs import moved_run, run, small_config

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.engine.runtime import provide_ffmpeg
from gaussiantalker_ns.inference.external_audio import AUDIO_VARIABLE
from gaussiantalker_ns.scripts import camera_path

METHODS = ("gaussiantalker", "gaussiantalker-lite", "gaussiantalker-cpu")
SIZE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_talker(tmp_path_factory.mktemp("talker") / "data", num_frames=22)


@pytest.fixture(scope="module")
def config_path(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config(data, tmp_path_factory.mktemp("outputs"), 4, 8)
    run(config)
    return config.get_base_dir() / "config.yml"


def test_the_plugin_is_discovered():
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_descriptions, all_methods

    assert set(METHODS) <= set(all_methods)
    assert all(all_descriptions[method] for method in METHODS)
    assert "talking-head" in all_dataparsers


@pytest.mark.parametrize("method", METHODS)
def test_ns_train_parses_its_options(method: str):
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    arguments = [method, "--pipeline.model.head.attention.num-layers", "3"]
    arguments += ["--pipeline.canonical-steps", "7", "--max-num-iterations", "11"]
    arguments += ["talking-head", "--image-size", "96"]
    config = tyro.cli(AnnotatedBaseConfigUnion, args=arguments)
    assert config.method_name == method
    assert config.pipeline.model.head.attention.num_layers == 3
    assert config.pipeline.canonical_steps == 7
    assert config.pipeline.datamanager.dataparser.image_size == 96
    assert config.machine.device_type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_ns_train_trains(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from nerfstudio.scripts import train

    arguments = ["ns-train", "gaussiantalker-cpu", "--data", str(data)]
    arguments += ["--output-dir", str(tmp_path), "--vis", "tensorboard"]
    arguments += ["--max-num-iterations", "4", "--pipeline.canonical-steps", "2"]
    arguments += ["--pipeline.num-threads", "1"]
    arguments += ["--pipeline.model.articulation.steps", "10"]
    arguments += ["talking-head", "--image-size", str(SIZE), "--num-points", "200"]
    monkeypatch.setattr(sys, "argv", arguments)
    train.entrypoint()
    assert list(tmp_path.rglob("step-000000003.ckpt"))
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_ns_eval(config_path: Path, tmp_path: Path):
    from nerfstudio.scripts.eval import ComputePSNR

    output = tmp_path / "metrics.json"
    ComputePSNR(config_path, output, render_output_path=tmp_path / "renders").main()
    results = json.loads(output.read_text())["results"]
    assert {"psnr", "ssim", "face_psnr", "head_psnr", "fps"} <= set(results)
    assert results["psnr"] > 10
    assert list((tmp_path / "renders").glob("*.png"))


@pytest.mark.parametrize("split", ["test", "train"])
def test_ns_render_dataset(config_path: Path, tmp_path: Path, split: str):
    from nerfstudio.scripts.render import DatasetRender

    DatasetRender(config_path, output_path=tmp_path, split=split, image_format="png").main()
    names = {path.name for path in (tmp_path / split).iterdir()}
    attention = {f"attention_{token}" for token in ("audio", "eye", "viewpoint", "null")}
    assert {"gt-rgb", "rgb", "head", "accumulation", "depth", "canonical"} | attention <= names
    rendered = sorted((tmp_path / split / "rgb").rglob("*.png"))
    assert len(rendered) == (2 if split == "test" else 20)
    assert np.asarray(Image.open(rendered[0])).shape == (SIZE, SIZE, 3)


def video_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_ns_render_interpolate(config_path: Path, tmp_path: Path):
    from nerfstudio.scripts.render import RenderInterpolated

    video = tmp_path / "interpolated.mp4"
    RenderInterpolated(config_path, output_path=video, interpolation_steps=3).main()
    frames = video_frames(video)
    assert len(frames) == 3
    assert frames[0].shape == (SIZE, SIZE, 3)


def write_camera_path(path: Path, times: list[float | None]) -> None:
    """A head-on camera eight decimetres away, once for every time."""
    cameras = []
    for time_ in times:
        matrix = np.eye(4)
        matrix[2, 3] = 8.0
        camera = {"camera_to_world": matrix.flatten().tolist(), "fov": 24.0, "aspect": 1.0}
        cameras.append(camera if time_ is None else {**camera, "render_time": time_})
    content = {
        "camera_type": "perspective",
        "render_height": SIZE,
        "render_width": SIZE,
        "seconds": len(times) / 25,
        "camera_path": cameras,
    }
    path.write_text(json.dumps(content))


def test_ns_render_camera_path_plays_the_clip(config_path: Path, tmp_path: Path):
    from nerfstudio.scripts.render import RenderCameraPath

    path, still = tmp_path / "path.json", tmp_path / "still.json"
    write_camera_path(path, [index / 10 for index in range(11)])
    write_camera_path(still, [None] * 3)
    pictures = {}
    for source in (path, still):
        render = RenderCameraPath(config_path, camera_path_filename=source)
        render.output_path, render.output_format = tmp_path / f"{source.stem}.mp4", "video"
        render.main()
        pictures[source.stem] = video_frames(tmp_path / f"{source.stem}.mp4")
    assert len(pictures["path"]) == 11
    assert all((frame == pictures["still"][0]).mean() > 0.9 for frame in pictures["still"])
    assert any((frame != pictures["path"][0]).any() for frame in pictures["path"][1:])


def test_the_printed_ns_render_finds_a_moved_run_and_data_set(
    config_path: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    from nerfstudio.scripts import render

    moved_run(config_path, tmp_path / "moved")
    write_wav(tmp_path / "talk.wav", np.zeros(3200, np.float32))
    monkeypatch.chdir(tmp_path)
    config = camera_path.Config(
        audio=Path("talk.wav"), talker=Path("moved"), output=Path("path.json"), data=data, size=32
    )
    assert camera_path.run(config) == 0
    variable, *command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert variable == f"{AUDIO_VARIABLE}=talk.wav" and command[0] == "ns-render"
    monkeypatch.setitem(os.environ, *variable.split("="))
    monkeypatch.setattr(sys, "argv", command)
    render.entrypoint()
    frames = video_frames(tmp_path / "path.mp4")
    assert len(frames) == 5 and frames[0].shape == (32, 32, 3)
    (tmp_path / "path.json").unlink()
    with pytest.raises(FileExistsError, match="path.config.yml exists already"):
        camera_path.run(config)


def test_ns_export_gaussian_splat(config_path: Path, tmp_path: Path):
    from nerfstudio.scripts.exporter import ExportGaussianSplat

    ExportGaussianSplat(config_path, output_dir=tmp_path).main()
    import open3d

    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "splat.ply"))
    positions = cloud.point.positions.numpy()
    assert 300 < len(positions) <= 400
    assert np.isfinite(positions).all()
    assert np.abs(positions).max() < 3
    assert "opacity" in cloud.point


def test_ns_viewer_serves_and_renders(config_path: Path):
    import msgspec
    from nerfstudio.scripts.viewer.run_viewer import RunViewer, ViewerConfigWithoutNumRays
    from websockets.sync.client import connect

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    viewer = ViewerConfigWithoutNumRays(websocket_port=port, websocket_host="127.0.0.1")
    threading.Thread(target=RunViewer(config_path, viewer).main, daemon=True).start()
    deadline = time.monotonic() + 120
    while True:
        try:
            client = connect(f"ws://127.0.0.1:{port}", max_size=None)
            break
        except OSError:
            assert time.monotonic() < deadline, "the viewer did not start"
            time.sleep(0.3)
    camera = {
        "type": "ViewerCameraMessage",
        "wxyz": (0.0, 1.0, 0.0, 0.0),
        "position": (0.0, 0.0, 80.0),
        "fov": 0.45,
        "aspect": 1.0,
        "look_at": (0.0, 0.0, 0.0),
        "up_direction": (0.0, 1.0, 0.0),
    }
    with client:
        client.send(msgspec.msgpack.encode(camera))
        received = b""
        while b"BackgroundImageMessage" not in received:
            assert time.monotonic() < deadline, "the viewer sent no picture"
            received = client.recv(timeout=60)
            assert isinstance(received, bytes)
    start = received.index(b"\xff\xd8\xff")
    with av.open(__import__("io").BytesIO(received[start:]), format="mjpeg") as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.std() > 5


def test_an_ffmpeg_is_provided_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    provide_ffmpeg.cache_clear()
    provide_ffmpeg()
    found = shutil.which("ffmpeg")
    assert found is not None
    version = subprocess.run([found, "-version"], check=True, capture_output=True, text=True)
    assert version.stdout.startswith("ffmpeg version")
