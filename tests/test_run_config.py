"""Configurations of runs: older names are translated, present ones are left alone."""

import warnings

import pytest

from gaussiantalker_ns.inference.checkpoint import readable_config, with_current_names

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
