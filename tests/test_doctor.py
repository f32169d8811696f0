"""`gaussiantalker doctor`: what it finds here, and its verdict when something is missing."""

import sys

import pytest

from gaussiantalker_ns import doctor
from gaussiantalker_ns.scripts import doctor as command


def test_every_finding_has_a_known_state_and_advice_when_not_ok():
    findings = doctor.examine()
    assert {"device", "numba", "model files", "ffmpeg"} <= {finding.subject for finding in findings}
    for finding in findings:
        assert finding.state in ("ok", "optional", "missing")
        assert finding.state == "ok" or finding.advice, finding


@pytest.mark.parametrize(
    ("running", "state"),
    [("3.9.18", "missing"), ("3.10.0", "ok"), ("3.12.7", "ok"), ("3.13.0", "missing")],
)
def test_python_must_be_a_version_that_the_package_declares(monkeypatch, running, state):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: running)
    finding = doctor.check_python()
    assert finding.state == state and running in finding.found
    assert state == "ok" or ">=3.10" in finding.advice


def test_missing_distribution_is_reported():
    finding = doctor.check_package("no-such-distribution-gt", "install it")
    assert finding.state == "missing" and finding.advice == "install it"


def test_missing_asset_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ASSETS_DIR", tmp_path)
    finding = doctor.check_assets()
    assert finding.state == "missing" and "face_landmarker.task" in finding.found


def test_lpips_weights_are_found_where_torch_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert doctor.check_lpips().state == "optional"
    weights = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    assert str(weights) in doctor.check_lpips().found
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert doctor.check_lpips().state == "ok"


def test_without_torch_and_nerfstudio_the_table_says_so(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("gaussiantalker_ns.losses")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "nerfstudio", "nerfstudio.utils", "nerfstudio.utils.rich_utils"):
        monkeypatch.setitem(sys.modules, name, None)
    assert doctor.check_device().state == "missing" and "torch" in doctor.check_device().found
    assert doctor.check_lpips().state == "optional" and "torch" in doctor.check_lpips().found
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.check_device()])
    assert command.run(command.Config()) == 1
    assert "GaussianTalker cannot run here: device." in capsys.readouterr().out


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("optional", 0), ("missing", 1)])
def test_exit_status_is_1_only_when_the_product_cannot_run(monkeypatch, state, status):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("thing", state, "x", "do")])
    assert command.run(command.Config()) == status
