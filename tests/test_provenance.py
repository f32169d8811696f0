"""The synthetic-media mark survives in the file and beside it."""

import json

import av
import numpy as np

from gaussiantalker_ns.inference.provenance import Provenance
from gaussiantalker_ns.inference.video_writer import SegmentWriter, assemble


def record(**changes):
    values = dict(
        method="gaussiantalker-cpu",
        checkpoint="step-000000010.ckpt",
        checkpoint_sha256="a" * 64,
        audio='x"; <script>.wav',
        audio_sha256="b" * 64,
        consent="I agree.",
        settings={"pose": "track"},
    )
    return Provenance(**{**values, **changes})


def test_mp4_header_carries_the_record(tmp_path):
    segment = tmp_path / "segment.mp4"
    with SegmentWriter(segment, 64, 64) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    output = tmp_path / "talk.mp4"
    assemble([segment], output, None, 1, record().container_metadata())
    with av.open(str(output)) as container:
        tags = dict(container.metadata)
    assert "Synthetic media" in tags["comment"]
    assert tags["digital_source_type"].endswith("trainedAlgorithmicMedia")
    assert json.loads(tags["gaussiantalker_provenance"])["audio"] == 'x"; <script>.wav'


def test_sidecar_is_complete_and_named_after_the_video(tmp_path):
    path = record(consent=None).write_sidecar(tmp_path / "talk.mp4")
    assert path.name == "talk.mp4.provenance.json"
    content = json.loads(path.read_text())
    assert content["consent"] is None and content["versions"]["torch"]
    assert list(tmp_path.iterdir()) == [path]
