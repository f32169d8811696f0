"""Means, paired differences and verdicts on made-up outcomes, and the files made of them."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gaussiantalker_ns.ablation import figures, report
from gaussiantalker_ns.ablation.runner import CurvePoint, Outcome, Result
from gaussiantalker_ns.ablation.study import REFERENCE, Study
from gaussiantalker_ns.ablation.summary import comparisons_of, estimate, lines_of
from gaussiantalker_ns.scheduler.tasks import Failure

STUDY = Study(Path("/data/me"), Path("/out"), "cpu", 20, 60, "0" * 64)
REFERENCE_STEPS = (20, 24, 28, 40, 60)
SINGLE_STEPS = (4, 8, 20, 24, 28, 40, 60)


def result(steps: tuple[int, ...], face: float, lips: float, width: float | None = 0.5) -> Result:
    """A run whose face PSNR rises by .01 a step up to `face` at step 60."""
    curve = [
        CurvePoint(
            step,
            cpu_seconds=step * 0.6,
            wall_seconds=step * 1.0,
            metrics={
                "face_psnr": face - 0.01 * (60 - step),
                "face_ssim": 0.9,
                "lips_psnr": 28.0,
                "lips_landmark_distance": lips,
                "lips_open_correlation": 0.25,
                **({} if width is None else {"lips_width_correlation": width}),
            },
            not_measured={
                "face_lpips": "needs A",
                "face_fid": "needs B",
                "lmd": "needs C",
                "sync": "needs B",
                "csim": "needs D",
            },
        )
        for step in steps
    ]
    return Result({}, curve, {"means": 3})


@pytest.fixture
def outcomes() -> dict[tuple[str, int], Outcome]:
    return {
        (REFERENCE, 42): result(REFERENCE_STEPS, 31.0, 0.60),
        (REFERENCE, 43): result(REFERENCE_STEPS, 32.0, 0.70),
        ("without-viewpoint", 42): result((60,), 30.0, 0.65),
        ("without-viewpoint", 43): result((60,), 30.5, 0.66, width=None),
        ("without-eye", 42): Failure("ValueError: no eyes"),
        ("without-eye", 43): result((60,), 33.0, 0.80),
        ("single-stage", 42): result(SINGLE_STEPS, 31.1, 0.60),
        ("single-stage", 43): result(SINGLE_STEPS, 31.9, 0.70),
    }


def test_estimates():
    assert estimate([]) is None
    one, two = estimate([3.0]), estimate([1.0, 3.0])
    assert one is not None and one.mean == 3.0 and one.std is None
    assert two is not None and two.mean == 2.0 and two.std == pytest.approx(2**0.5)
    assert report.show(one, 2) == "3.00"
    assert report.show(two, 2) == "2.00 \u00b1 1.41"
    assert report.show(None, 2) == "-"


def test_differences_are_paired_by_seed(outcomes):
    """The viewpoint's rows lose 1.0 and 1.5 dB; lips 0.05 px worse once, 0.04 px better once."""
    found = {(c.row.name, c.measure): c for c in comparisons_of(lines_of("5", STUDY, outcomes))}
    face = found["without-viewpoint", "face_psnr"]
    assert face.differences == {42: pytest.approx(-1.0), 43: pytest.approx(-1.5)}
    assert face.paper_difference == pytest.approx(31.866 - 33.299)
    assert face.direction == -1 and face.verdict == "agrees"
    lips = found["without-viewpoint", "lips_landmark_distance"]
    assert lips.paper_difference == pytest.approx(3.052 - 2.891)
    assert lips.direction == -1 and lips.verdict == "not settled"
    assert set(found["without-viewpoint", "lips_width_correlation"].differences) == {42}
    eye = found["without-eye", "face_psnr"]
    assert eye.differences == {43: pytest.approx(1.0)} and eye.verdict == "disagrees"
    assert found["without-null", "face_psnr"].verdict == "-"
    audio = found["without-audio", "face_psnr"]
    assert audio.paper_difference is None and audio.direction == -1


def test_stages_are_compared_by_both_counts(outcomes):
    """After 4 deformation steps the reference has done 24, a single stage 4: .2 dB less here."""
    lines = lines_of("6", STUDY, outcomes)
    assert [line.step for line in lines] == [*SINGLE_STEPS, 24, 28, 40, 60]
    papers = {(line.row.name, line.deformation_steps): line.paper for line in lines}
    assert papers["single-stage", 4] == (26.063, 0.072, 66.629, 3.446, 1.348)
    assert papers["stage-wise", 40] == (32.733, 0.014, 11.173, 2.923, 6.736)
    assert papers["stage-wise", 20] is None
    found = {c.moment: c for c in comparisons_of(lines) if c.measure == "face_psnr"}
    early = found["4 deformation steps"]
    assert early.paper_difference == pytest.approx(26.063 - 31.076)
    assert early.differences == {42: pytest.approx(0.1 - 0.2), 43: pytest.approx(-0.1 - 0.2)}
    assert early.verdict == "agrees"
    same = found["24 steps in all"]
    assert same.paper_difference == pytest.approx(26.063 - 31.076)
    assert same.differences == {42: pytest.approx(0.1), 43: pytest.approx(-0.1)}
    assert same.verdict == "not settled"
    assert set(found) == {
        *(f"{n} deformation steps" for n in (4, 8, 40)),
        *(f"{n} steps in all" for n in (24, 28, 60)),
    }


def test_markdown_has_the_paper_s_form(outcomes):
    text = report.markdown(STUDY, ["5", "6"], outcomes)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    viewpoint = next(row for row in rows if row.startswith("| w/o viewpoint |"))
    assert "| 31.866 | 0.019 | 13.231 | 3.052 | 6.563 | 30.25 \u00b1 0.35 |" in viewpoint
    assert any(row.startswith("| All (Ours) (reference) |") for row in rows)
    assert next(row for row in rows if row.startswith("| w/o null-vec |")).count("not run") == 1
    assert "- `without-eye`, seed 42, failed: `ValueError: no eyes`" in text
    assert "20 canonical + 40 deformation steps" in text
    assert "seeds 42, 43" in text and "Preset `cpu`, 20 canonical" in text
    offline = replace(STUDY, perceptual_network="ms-ssim")
    text = report.markdown(offline, ["5"], outcomes)
    assert "Preset `cpu` with the perceptual term `ms-ssim`, 20 canonical" in text


def test_the_paper_s_measures_stand_beside_its_columns(outcomes):
    """As far as their weights are here; the others are named with what they need."""
    text = report.markdown(STUDY, ["5"], outcomes)
    assert "- face LPIPS: not measured: needs A\n" in text
    assert "- face FID, Sync: not measured: needs B\n" in text and "needs D" not in text
    assert "| LMD | -" not in text
    without = outcomes["without-viewpoint", 42].final
    for outcome, lpips, lmd in ((outcomes[REFERENCE, 42], 0.02, 3.0), (without, 0.03, 3.25)):
        point = outcome.final if isinstance(outcome, Result) else outcome
        point.metrics.update({"face_lpips": lpips, "lmd": lmd})
        for key in ("face_lpips", "lmd"):
            del point.not_measured[key]
    text = report.markdown(STUDY, ["5"], outcomes)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    order = ["PSNR", "LPIPS", "FID", "LMD", "Sync"]
    cells = [cell.strip(" |") for cell in rows[0].split(" | ")]
    assert [cell.split()[1] for cell in cells[1:6]] == order
    assert [cell.split()[-2] for cell in cells[6:11]] == order
    viewpoint = next(row for row in rows if row.startswith("| w/o viewpoint |"))
    assert "| 30.25 \u00b1 0.35 | 0.0300 | - | 3.250 | - |" in viewpoint
    assert "| w/o viewpoint | +0.005 LPIPS | face LPIPS | +0.0100 | agrees |" in rows
    assert "| w/o viewpoint | +0.161 LMD | LMD | +0.250 | agrees |" in rows
    assert "face LPIPS: not measured" not in text and "face FID, Sync: not measured" in text


def test_a_row_of_failures_says_so(outcomes):
    outcomes["without-eye", 43] = Failure("OSError: `disk`\nfull")
    text = report.markdown(STUDY, ["5"], outcomes)
    assert "| w/o eye feature | 32.826 | 0.015 | 10.06 | 2.902 | 6.911 | **failed** |" in text
    assert "seed 43, failed: `OSError: 'disk'" in text


def test_csv_has_every_run(outcomes):
    records = list(csv.DictReader(io.StringIO(report.csv_text(STUDY, ["5", "6"], outcomes))))
    own = [record for record in records if record["row"] == "without-viewpoint"]
    assert [record["seed"] for record in own] == ["42", "43"]
    assert float(own[0]["face_psnr"]) == 30.0 and float(own[0]["paper_PSNR"]) == 31.866
    assert own[1]["lips_width_correlation"] == ""
    assert len([record for record in records if record["row"] == "single-stage"]) == 14


def test_json_is_valid_and_complete(outcomes):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    content = json.loads(report.json_text(STUDY, ["5"], outcomes), parse_constant=refuse)
    assert len(content["runs"]) == len(outcomes)
    viewpoint = next(r for r in content["tables"]["5"]["rows"] if r["row"] == "without-viewpoint")
    assert viewpoint["ours"]["face_psnr"]["mean"] == pytest.approx(30.25)
    assert viewpoint["ours"]["lips_width_correlation"]["std"] is None
    assert {c["verdict"] for c in content["tables"]["5"]["comparisons"]} >= {"agrees", "disagrees"}


def test_figures_show_every_run(outcomes, tmp_path: Path):
    figure = figures.row_figure(STUDY, ["5", "6"], outcomes)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [
        "Table 5: w/o null-vec",
        "Table 5: w/o eye feature",
        "Table 5: w/o viewpoint",
        "Table 5: all tokens without a spatial mask",
        "Table 5: raw speech features",
        "Table 5: w/o audio",
        "Table 5: All (Ours)",
        "Table 6: w/o stage-wise",
        "Table 6: w/ stage-wise",
    ]
    curves = figures.stage_figure(STUDY, outcomes).axes[0].get_lines()
    means = {line.get_label(): line.get_xydata() for line in curves}
    assert means["with stages"][-1] == pytest.approx([60, 31.5])
    assert means["without stages"][0] == pytest.approx([4, 31.5 - 0.56])
    figures.save(figure, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.png"]


def test_nothing_run_is_still_a_report():
    text = report.markdown(STUDY, ["3", "fusion"], {})
    assert text.count("**not run**") == 7
    assert report.ABSENT not in text
    figures.row_figure(STUDY, ["3", "fusion"], {})
    figures.stage_figure(STUDY, {})
