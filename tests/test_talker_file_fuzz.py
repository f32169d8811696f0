"""The reader of talker files against damage: it reads a file, or says that it is none.

`GAUSSIANTALKER_FUZZ_EXAMPLES=100000 pytest tests/test_talker_file_fuzz.py` runs for longer.
"""

import json
import os
import struct
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from talker_files import tiny_members, zipped

from gaussiantalker_ns.inference.talker_file.archive import TalkerFileError
from gaussiantalker_ns.inference.talker_file.reader import read_talker

EXAMPLES = int(os.environ.get("GAUSSIANTALKER_FUZZ_EXAMPLES", "40"))

MOST_MEMORY = 2**30
"""Bytes that a reader may take, whatever it is given."""

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

MEMBERS = tiny_members()
GOOD = zipped(MEMBERS)

edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "copy"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=6,
)
"""Kind of a change, its place as a fraction of the length, and bytes."""

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["attention", "concat", "multiply", "plain", "layer", "float16", "audio"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    yield tmp_path_factory.mktemp("fuzz") / "me.talker"
    if sys.platform == "linux":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        # Only where the test runs alone: others in the same process may have taken more before.
        if EXAMPLES > 1000:
            assert peak < MOST_MEMORY, f"{peak} bytes"


def edited(data: bytes, changes) -> bytes:
    """Bytes after a list of changes."""
    for kind, fraction, patch in changes:
        at = int(fraction * len(data))
        if kind == "set":
            data = data[:at] + patch + data[at + len(patch) :]
        elif kind == "cut":
            data = data[:at] + data[at + len(patch) :]
        elif kind == "insert":
            data = data[:at] + patch + data[at:]
        else:
            data = data[:at] + data[at // 2 : at // 2 + 40 * len(patch)] + data[at:]
    return data


def read_or_refuse(path, data: bytes) -> None:
    """Read a file and show its pictures; nothing but our own error may come of it."""
    path.write_bytes(data)
    try:
        file = read_talker(path)
        for frame in range(file.description.num_frames):
            file.model.background.layers.composite(frame)
    except TalkerFileError as error:
        assert str(path) in str(error)


@fuzz
@given(edits)
def test_damaged_files(place, changes):
    read_or_refuse(place, edited(GOOD, changes))


@fuzz
@given(st.sampled_from(sorted(MEMBERS)), edits)
def test_damaged_members_in_a_sound_archive(place, name, changes):
    read_or_refuse(place, zipped({**MEMBERS, name: edited(MEMBERS[name], changes)}))


def places_in(value, way=()):
    """The way to every value in parsed JSON."""
    yield way
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from places_in(item, (*way, key))


DESCRIPTION = json.loads(MEMBERS["talker.json"])
PLACES = [way for way in places_in(DESCRIPTION) if way]


@fuzz
@given(st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=3))
def test_other_descriptions(place, changes):
    content = json.loads(MEMBERS["talker.json"])
    for way, value in changes:
        inner = content
        try:
            for part in way[:-1]:
                inner = inner[part]
            inner[way[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    read_or_refuse(place, zipped({**MEMBERS, "talker.json": json.dumps(content).encode()}))


@fuzz
@given(
    st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "more"]), values), st.data()
)
def test_other_tensor_headers(place, changes, data):
    whole = MEMBERS["tensors.safetensors"]
    (length,) = struct.unpack_from("<Q", whole)
    header = json.loads(whole[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(header)))
    header[name] = data.draw(st.sampled_from([{**header[name], **changes}, changes]))
    text = json.dumps(header).encode()
    length = data.draw(st.sampled_from([len(text), 0, 2**63, len(text) + 1]))
    tensors = struct.pack("<Q", length) + text + whole[8 + len(text) :]
    read_or_refuse(place, zipped({**MEMBERS, "tensors.safetensors": tensors}))


@fuzz
@example(b"PK\x05\x06")
@given(st.binary(max_size=300))
def test_any_bytes(place, data):
    read_or_refuse(place, data)
    read_or_refuse(place, b"PK\x03\x04" + data + GOOD[-22:])
