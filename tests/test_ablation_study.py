"""Which runs the ablation tables need: settings that exist, one reference, equal conditions."""

from pathlib import Path

import pytest

from gaussiantalker_ns.ablation.study import (
    FIRST_SEED,
    PRESETS,
    REFERENCE,
    Study,
    measured_steps,
    plan,
    read_setting,
    write_setting,
)
from gaussiantalker_ns.ablation.tables import PAPER_COLUMNS, TABLES

ROW_NAMES = [row.name for table in TABLES.values() for row in table.rows]


def study(preset: str = "cpu", canonical_steps: int = 20, num_steps: int = 60) -> Study:
    return Study(Path("/data/me"), Path("/out"), preset, canonical_steps, num_steps, "0" * 64)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_row_changes_what_it_names_and_nothing_else(preset: str):
    rows = {row.name: row for table in TABLES.values() for row in table.rows}
    base = study(preset).base_config()
    runs = plan(study(preset), list(TABLES), (), num_seeds=1, threads=None)
    for run in runs[1:]:
        for path, value in rows[run.name].settings.items():
            assert read_setting(run.config, path) == value
            write_setting(run.config, path, read_setting(base, path))
        assert run.config.pipeline.model == base.pipeline.model
        assert run.config.optimizers == base.optimizers


@pytest.mark.parametrize(
    ("preset", "own"),
    [
        ("cpu", {"attributes-none"}),
        ("paper", {"attributes-sh-opacity", "no-spatial-mask", "raw-features"}),
        ("lite", {"attributes-sh-opacity", "no-spatial-mask", "raw-features"}),
    ],
)
def test_the_run_without_changes_is_shared_by_all_tables(preset: str, own: set[str]):
    names = [run.name for run in plan(study(preset), list(TABLES), (), 1, None)]
    unchanged = {"offsets-all", "conditions-all", "stage-wise", "attention", *own}
    assert names[0] == REFERENCE and names.count(REFERENCE) == 1
    assert set(names) == set(ROW_NAMES) - unchanged | {REFERENCE}


def test_all_rows_of_a_seed_train_under_the_same_conditions():
    runs = plan(study(), list(TABLES), (), num_seeds=2, threads=1)
    assert len({(run.name, run.seed) for run in runs}) == len(runs)
    for run in runs:
        manager = run.config.pipeline.datamanager
        assert run.config.machine.seed == manager.train_cameras_sampling_seed == run.seed
        assert manager.dataparser.seed == run.seed - FIRST_SEED
        assert run.config.max_num_iterations == 60
        assert run.config.pipeline.num_threads == 1
        assert run.measured_at[-1] == 60
        stages = 0 if run.name == "single-stage" else 20
        assert run.config.pipeline.canonical_steps == stages


def test_runs_lie_where_ns_train_would_put_them():
    (run,) = plan(study(), ["5"], ["without-eye"], 1, None)
    assert run.folder == Path("/out/runs/without-eye/gaussiantalker-cpu/seed-42")
    assert run.result_path == run.folder / "result.json"


def test_a_curve_has_points_to_compare_by_either_count():
    """Of 40 deformation steps, a tenth, a fifth, half and all are 4, 8, 20 and 40."""
    runs = {run.name: run for run in plan(study(), ["5", "6"], (), 1, None)}
    assert runs[REFERENCE].measured_at == (20, 24, 28, 40, 60)
    assert runs["single-stage"].measured_at == (4, 8, 20, 24, 28, 40, 60)
    assert runs["without-null"].measured_at == (60,)
    config = study(canonical_steps=0).base_config()
    assert measured_steps(study(canonical_steps=0), config, True) == [6, 12, 30, 60]


def test_rows_can_be_chosen_by_name_or_as_the_reference():
    names = [run.name for run in plan(study(), ["5"], ["conditions-all", "without-eye"], 1, None)]
    assert names == [REFERENCE, "without-eye"]
    assert [run.name for run in plan(study(), ["5"], [REFERENCE], 1, None)] == [REFERENCE]


def test_an_unknown_row_is_an_error():
    with pytest.raises(ValueError, match=r"--rows names concat; expected some of without-null"):
        plan(study(), ["5"], ["concat"], 1, None)


def test_the_paper_s_figures_are_complete():
    assert len(set(ROW_NAMES)) == len(ROW_NAMES)
    for table in TABLES.values():
        for row in table.rows:
            figures = [*(row.curve or {}).values(), *([row.paper] if row.paper else [])]
            assert all(len(values) == len(PAPER_COLUMNS) for values in figures)
            assert row.curve is None or set(row.curve) == {500, 1000, 5000}
