"""Whatever is in a user's file, parsers raise our kinds of error or return what they promise."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.dataparsers.blinks import read_au45
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.landmarks import read_points68
from gaussiantalker_ns.dataparsers.poses import read_description, read_poses
from gaussiantalker_ns.preprocess.step_runner import read_talker

OUR_ERRORS = ValueError, FileNotFoundError
FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NUMBERS = st.sampled_from(["0", "1.5", "-2", "1e400", "nan", "0,5", "1_0", "x", "", '"', "\0"])


def damaged(draw, text: bytes) -> bytes:
    """Bytes with a piece replaced, or in another encoding."""
    if draw(st.booleans()):
        encoding = draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]))
        text = text.decode().encode(encoding)
    start = draw(st.integers(0, len(text)))
    stop = draw(st.integers(start, min(start + 20, len(text))))
    return text[:start] + draw(st.binary(max_size=6)) + text[stop:]


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return DatasetLayout(write_synthetic_talker(tmp_path_factory.mktemp("fuzz"), num_frames=11))


def parse(layout):
    """Read all that depends on the JSON files."""
    with suppress(*OUR_ERRORS):
        read_talker(layout)
    with suppress(*OUR_ERRORS):
        poses = read_poses(layout, read_description(layout))
        assert np.isfinite(poses.T_camera_head.numpy()).all() and poses.focal > 0


def changed(draw, content):
    """A JSON value with something inside replaced by anything."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    if not keys:
        return draw(VALUES)
    key = draw(st.sampled_from(keys))
    copy = content.copy()
    deeper = isinstance(copy[key], (dict, list)) and draw(st.integers(0, 3)) > 0
    copy[key] = changed(draw, copy[key]) if deeper else draw(VALUES)
    return copy


@pytest.mark.parametrize("name", ["transforms_train.json", "transforms_val.json", "talker.json"])
@FEW
@given(data=st.data())
def test_json(layout, name, data):
    path = layout.root / name
    whole = path.read_bytes()
    try:
        if data.draw(st.booleans()):
            content = changed(data.draw, json.loads(whole))
            path.write_text(json.dumps(content), encoding="utf-8")
        else:
            path.write_bytes(damaged(data.draw, whole))
        parse(layout)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"schema": ' + "9" * 5000 + "}", ""])
@pytest.mark.parametrize("name", ["transforms_train.json", "talker.json"])
def test_json_of_the_worst_kinds(layout, name, text):
    path = layout.root / name
    whole = path.read_bytes()
    try:
        path.write_text(text)
        with pytest.raises(OUR_ERRORS, match=name):
            read_poses(layout, read_description(layout))
    finally:
        path.write_bytes(whole)


@FEW
@given(data=st.data())
def test_landmarks(layout, data):
    path = layout.points68(3)
    whole = path.read_bytes()
    try:
        path.write_bytes(damaged(data.draw, whole))
        with suppress(*OUR_ERRORS):
            assert read_points68(layout, 11).shape == (11, 68, 2)
    finally:
        path.write_bytes(whole)


@FEW
@given(data=st.data())
def test_tables(tmp_path, data):
    path = tmp_path / "au.csv"
    separator = data.draw(st.sampled_from([",", ";", "\t", ", "]))
    row = st.lists(NUMBERS, max_size=4).map(separator.join)
    rows = ["frame" + separator + "AU45_r", *data.draw(st.lists(row, max_size=5))]
    path.write_bytes(damaged(data.draw, "\n".join(rows).encode()))
    with suppress(*OUR_ERRORS):
        assert read_au45(path).dtype == np.float32
