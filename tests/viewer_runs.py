"""A trained synthetic head behind Nerfstudio's viewer, as `ns-viewer` starts it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.viewer import Viewer
from synthetic_talker import write_synthetic_talker
from talker_runs import run, small_config

from gaussiantalker_ns.inference.checkpoint import find_config

FRAMES = 110  # 100 for the training, the others held out.


def train_head(root: Path) -> Path:
    """Train long enough that frames differ visibly; return the run's configuration."""
    data = write_synthetic_talker(root / "data", num_frames=FRAMES, size=64)
    run(small_config(data, root / "outputs", canonical_steps=30, num_steps=70))
    return find_config(root / "outputs")


@contextlib.contextmanager
def served(config_path: Path, log_folder: Path) -> Iterator[Viewer]:
    """A viewer on a free port of this machine; stopped at the end."""
    config, pipeline, _, step = eval_setup(config_path, test_mode="test")
    viewer = Viewer(
        ViewerConfig(websocket_host="127.0.0.1"),
        log_filename=log_folder / "viewer_log.txt",
        datapath=Path(config.pipeline.datamanager.data),
        pipeline=pipeline,
        train_lock=Lock(),
    )
    datamanager = pipeline.datamanager
    viewer.init_scene(datamanager.train_dataset, "completed", datamanager.eval_dataset)
    viewer.update_scene(step=step)
    try:
        yield viewer
    finally:
        control_of(viewer).close()
        viewer.viser_server.stop()


def control_of(viewer: Viewer):
    """The audio timeline in a viewer."""
    (timeline,) = [control for control in viewer.viewer_controls]
    return timeline.control


def session_of(viewer: Viewer):
    """What all browsers of a viewer share."""
    return control_of(viewer).session
