"""Configurations of runs: older names and foreign paths are translated, damage is named."""

import warnings
from pathlib import Path

import pytest
import torch
import yaml

from gaussiantalker_ns.config import gaussiantalker_cpu
from gaussiantalker_ns.inference.checkpoint import check_checkpoint
from gaussiantalker_ns.inference.run_config import (
    check_config,
    readable_config,
    with_current_names,
    with_native_paths,
)

OLD = """
pipeline: !!python/object:gaussiantalker_ns.pipeline.GaussianTalkerPipelineConfig
  model: !!python/object:gaussiantalker_ns.model.GaussianTalkerModelConfig
    head: !!python/object:gaussiantalker_ns.head.TalkingHeadConfig
      tokens:
        above_mouth: !!python/tuple
        - eye
    rest_share: 0.08
"""


def test_older_names_are_translated():
    current = with_current_names(OLD)
    assert "gaussiantalker_ns.fields.talking_head.TalkingHeadConfig" in current
    assert "    silence_prob: 0.08" in current and "        upper_face_only: !!" in current
    assert "gaussiantalker_ns.model.GaussianTalkerModelConfig" in current
    assert with_current_names(current) == current


def test_an_older_file_is_read_from_a_copy_with_a_notice(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(OLD)
    with pytest.warns(UserWarning, match="before 0.1.0"), readable_config(path) as readable:
        assert readable != path and readable.read_text() == with_current_names(OLD)
    assert path.read_text() == OLD and not readable.exists()


def test_a_present_file_is_read_itself(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(with_current_names(OLD))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with readable_config(path) as readable:
            assert readable == path


@pytest.fixture(scope="module")
def whole() -> str:
    """The configuration of a run, as Nerfstudio writes it."""
    return yaml.dump(gaussiantalker_cpu.config)


def check(path: Path) -> None:
    with readable_config(path) as readable:
        check_config(path, readable)


def test_a_whole_file_passes(tmp_path: Path, whole: str):
    path = tmp_path / "config.yml"
    path.write_text(whole)
    check(path)


@pytest.mark.parametrize("kind", ["WindowsPath", "_local.WindowsPath", "_local.PosixPath"])
def test_paths_of_another_system_or_python_are_read(tmp_path: Path, whole: str, kind: str):
    native = f"pathlib.{type(Path()).__name__}"
    foreign = whole.replace(native, f"pathlib.{kind}")
    assert foreign != whole and with_native_paths(whole) == whole
    path = tmp_path / "config.yml"
    path.write_text(foreign)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with readable_config(path) as readable:
            check_config(path, readable)
            config = yaml.load(readable.read_text(), Loader=yaml.Loader)
    assert config.relative_model_dir == gaussiantalker_cpu.config.relative_model_dir


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.97])
def test_a_cut_file_is_named(tmp_path: Path, whole: str, share: float):
    path = tmp_path / "config.yml"
    path.write_text(whole[: round(share * len(whole))])
    with pytest.raises(
        ValueError, match=f"^{path} .*; expected the whole file .* Copy the"
    ) as told:
        check(path)
    assert len(str(told.value).splitlines()) == 1


def test_a_file_cut_after_any_line_is_named(tmp_path: Path, whole: str):
    path = tmp_path / "config.yml"
    lines = whole.splitlines(keepends=True)
    for count in range(1, len(lines) - 1, 17):
        path.write_text("".join(lines[:count]))
        with pytest.raises(ValueError, match="expected the whole file"):
            check(path)


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (b"\xff\xfe\x00", "is no text"),
        (b"a: 1", "holds dict"),
        (b"!!python/object:not_installed.Thing {}", "cannot be read"),
        (b"\x00", "cannot be read"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, state: str):
    path = tmp_path / "config.yml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path} {state}"):
        check(path)


def test_another_method_is_named(tmp_path: Path, whole: str):
    path = tmp_path / "config.yml"
    path.write_text(whole.replace("method_name: gaussiantalker-cpu", "method_name: other"))
    with pytest.raises(ValueError, match="belongs to the method other"):
        check(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "step-000000001.ckpt"
    torch.save({"step": 1, "pipeline": {"weight": torch.ones(1000)}}, path)
    check_checkpoint(path)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_checkpoint_is_named(tmp_path: Path, checkpoint: bytes, share: float):
    path = tmp_path / "step-000000001.ckpt"
    path.write_bytes(checkpoint[: round(share * len(checkpoint))])
    with pytest.raises(ValueError, match=f"^{path} is damaged .* Copy the run's folder") as told:
        check_checkpoint(path)
    assert len(str(told.value).splitlines()) == 1


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path):
    path = tmp_path / "step-000000001.ckpt"
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds no trained model"):
        check_checkpoint(path)
