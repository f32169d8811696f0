"""`gaussiantalker doctor`: what it finds here, and its verdict when something is missing."""

import pytest

from gaussiantalker_ns.scripts import doctor


def test_every_finding_has_a_known_state_and_advice_when_not_ok():
    findings = doctor.examine()
    assert {"device", "numba", "model files", "ffmpeg"} <= {finding.subject for finding in findings}
    for finding in findings:
        assert finding.state in ("ok", "optional", "missing")
        assert finding.state == "ok" or finding.advice, finding


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
    weights = tmp_path / "hub" / "checkpoints" / doctor.LPIPS_BACKBONE
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert doctor.check_lpips().state == "ok"


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("optional", 0), ("missing", 1)])
def test_exit_status_is_1_only_when_the_product_cannot_run(monkeypatch, state, status):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("thing", state, "x", "do")])
    assert doctor.run(doctor.Config()) == status
