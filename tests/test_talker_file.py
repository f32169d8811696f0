"""What a talker file may hold, and the sentence for everything else."""

import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from talker_files import (
    NUM_FRAMES,
    SIZE,
    tiny_description,
    tiny_members,
    tiny_tensors,
    with_description,
    with_header,
    zipped,
)

from gaussiantalker_ns.fields.talking_head import TalkingHeadConfig
from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker_file import archive, webp
from gaussiantalker_ns.inference.talker_file.archive import TalkerFileError, write_archive
from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.inference.talker_file.schema import Description, description_json
from gaussiantalker_ns.inference.talker_file.tensors import tensor_bytes
from gaussiantalker_ns.inference.talker_file.typed_json import (
    Mismatch,
    as_json,
    from_json,
    parse,
)


@pytest.fixture(scope="module")
def members():
    return tiny_members()


def read(tmp_path, data: bytes):
    path = tmp_path / "me.talker"
    path.write_bytes(data)
    return read_talker(path)


def test_a_tiny_file_is_read_and_draws(tmp_path, members):
    file = read(tmp_path, zipped(members))
    assert (file.method, file.step) == ("gaussiantalker-cpu", 10)
    assert file.description == tiny_description()
    assert file.origin().consent == {"statement": "I agree."}
    assert len(file.origin().talker_sha256) == 64
    assert file.part_bytes["tensors.safetensors"] == len(members["tensors.safetensors"])
    tensors = tiny_tensors(tiny_description())
    state = file.model.head.state_dict()
    assert torch.equal(
        state["fusion.layers.0.query.weight"], tensors["network.fusion.layers.0.query.weight"]
    )
    assert torch.equal(file.model.bank.audio_mean, tensors["statistics.audio_mean"])
    assert torch.equal(file.model.bank.silence_features[0, 0], tensors["silence"])
    renderer = FrameRenderer(file, Scene(), MotionConfig())
    windows = np.zeros((4, 8, 2, 384), np.float32)
    frames = list(renderer.render(windows, np.arange(4)))
    assert [frame.shape for frame in frames] == [(SIZE, SIZE, 3)] * 4
    assert (frames[0][0, 0] == 120).all() and frames[0][-1, 0, 0] > 150


def test_gaussians_of_a_whole_person_need_no_torso(tmp_path):
    file = read(tmp_path, zipped(tiny_members(tiny_description(torso_mode="gaussians"))))
    assert file.model.background.layers.foreground == "person"
    assert "torso" not in file.part_bytes


@pytest.mark.parametrize("eye_form", ["expression", "au45"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_precision_and_eyes(tmp_path, precision, eye_form):
    description = tiny_description(precision=precision, eye_form=eye_form)
    file = read(tmp_path, zipped(tiny_members(description)))
    tensors = tiny_tensors(description)
    exact = torch.equal(file.model.features, tensors["features"])
    assert exact == (precision == "float32")
    assert torch.allclose(file.model.features, tensors["features"], atol=1e-3)
    assert torch.equal(file.model.head.gauss_params["means"], tensors["gaussians.means"])
    assert torch.equal(file.model.bank.eye, tensors["track.eye"])


def test_paste_back_needs_the_run(tmp_path, members):
    file = read(tmp_path, zipped(members))
    with pytest.raises(ValueError, match="does not hold the clip's own frames.*--load-config"):
        FrameRenderer(file, Scene(torso_mode="paste-back"), MotionConfig())


CHANGES = {
    "method": (7, "talker.method = int, not str"),
    "step": (-1, "step = -1, not 0 to"),
    "fps": (30, "fps = 30, not 25 to 25"),
    "size": (1_000_000, "size = 1000000, not 16 to"),
    "precision": ("float64", "not one of"),
    "num_frames": (10**9, "num_frames = 1000000000"),
    "num_gaussians": (10**12, "num_gaussians = 1000000000000"),
    "sh_degree": (3, "sh_degree = 3, not 0 to 1"),
    "audio__window_shape": ([2, 384, 1], "has 3 items in talker.audio.window_shape, not 2"),
    "audio__encoder": ("nobody's", "needs the audio encoder"),
    "audio__context_frames": (7, "two different numbers of context frames"),
    "head__tokens__width": (10**6, "head.tokens.width = 1000000"),
    "head__tokens__audio_encoder__channels": ([8] * 65, "not a short list"),
    "head__attention__num_layers": (1000, "num_layers = 1000, not 1 to 16"),
    "head__attention__num_heads": (3, "describes no network .*does not divide"),
    "head__attention__dropout": ("high", "not float"),
    "head__surprise": (1, "talker.head.surprise, which this version does not know"),
    "head__tokens__upper_face_only": (["nose"], "not one of"),
    "camera": ([1, 2], "not an object"),
    "consent": ({"statement": 3}, "not str"),
    "licence": ("x" * 5000, "not str"),
    "viewpoint_gain": (0.0, "viewpoint gain"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_descriptions_that_are_refused(tmp_path, members, name):
    value, message = CHANGES[name]
    changed = with_description(members, **{name: value})
    with pytest.raises(TalkerFileError, match=message) as error:
        read(tmp_path, zipped(changed))
    assert str(error.value).startswith(str(tmp_path / "me.talker"))


def test_a_version_of_the_future_says_what_to_install(tmp_path, members):
    with pytest.raises(TalkerFileError, match="has version 2 of the format.*pip install --upgrade"):
        read(tmp_path, zipped(with_description(members, version=2, news={"a": 1})))
    for version in ("1", 0, None, True):
        with pytest.raises(TalkerFileError, match="has no version"):
            read(tmp_path, zipped(with_description(members, version=version)))
    with pytest.raises(TalkerFileError, match="is not of the format 'gaussiantalker-talker'"):
        read(tmp_path, zipped(with_description(members, format="zip")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"a": NaN}', "has the number NaN"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "is no JSON|is not of the format"),
        (b"[]", "is not of the format"),
        (b" " * 300_000, "holds a talker.json of 300000 bytes"),
    ],
)
def test_text_that_is_no_description(tmp_path, members, text, message):
    with pytest.raises(TalkerFileError, match=message):
        read(tmp_path, zipped({**members, "talker.json": text}))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("features", {"shape": [10**12, 16]}, "holds features in the shape"),
        ("features", {"shape": "all"}, "holds features in the shape all"),
        ("features", {"dtype": "F16"}, "holds features as F16, not F32"),
        ("features", {"dtype": "BOOL"}, "holds features as BOOL, not F32"),
        ("features", {"data_offsets": [0, 10**12]}, "tensors that cannot be read"),
        ("features", {"data_offsets": [-4, 4]}, "tensors that cannot be read"),
    ],
)
def test_tensors_that_are_refused(tmp_path, members, name, changes, message):
    with pytest.raises(TalkerFileError, match=message):
        read(tmp_path, zipped(with_header(members, name, **changes)))


def test_tensors_that_lack_something(tmp_path, members):
    description = tiny_description()
    tensors = tiny_tensors(description)

    def replaced(**changes):
        kept = {name: t for name, t in {**tensors, **changes}.items() if t is not None}
        return zipped({**members, "tensors.safetensors": tensor_bytes(kept, set())})

    with pytest.raises(TalkerFileError, match="lacks the tensor 'features'"):
        read(tmp_path, replaced(features=None))
    with pytest.raises(TalkerFileError, match="holds the unknown tensor 'more'"):
        read(tmp_path, replaced(more=torch.zeros(1)))
    bent = {"track.T_camera_head": 2 * tensors["track.T_camera_head"]}
    with pytest.raises(TalkerFileError, match="poses that are not rigid"):
        read(tmp_path, replaced(**bent))
    data = bytearray(members["tensors.safetensors"])
    data[-4:] = struct.pack("<f", float("nan"))
    with pytest.raises(TalkerFileError, match="numbers that are not finite"):
        read(tmp_path, zipped({**members, "tensors.safetensors": bytes(data)}))
    for data in (b"", b"\xff" * 8, members["tensors.safetensors"][:100]):
        with pytest.raises(TalkerFileError, match="without a header"):
            read(tmp_path, zipped({**members, "tensors.safetensors": data}))


def test_too_large_numbers_are_not_packed():
    with pytest.raises(ValueError, match="numbers within float16"):
        tensor_bytes({"a": torch.tensor([1e6])}, {"a"})
    with pytest.raises(ValueError, match="finite numbers"):
        tensor_bytes({"a": torch.tensor([float("nan")])}, set())


def test_pictures_are_measured_before_they_are_decoded(tmp_path, members, monkeypatch):
    huge = webp.encode(np.zeros((8, 16000, 3), np.uint8))
    monkeypatch.setattr(webp.cv2, "imdecode", lambda *_: pytest.fail("not measured"))
    for name, picture, message in (
        ("background.webp", huge, "background.webp of 16000x8 pixels, not 32x32"),
        ("torso/00001.webp", huge, "00001.webp of 16000x8 pixels, not 32x1 to 32"),
        ("picture.webp", b"\x89PNG\r\n", "picture.webp that is no still WebP"),
    ):
        with pytest.raises(TalkerFileError, match=message):
            read(tmp_path, zipped({**members, name: picture}))


def test_headers_of_a_picture_have_to_agree():
    """A small canvas around a large picture is what would surprise a decoder."""
    image = np.full((8, 8, 4), 100, np.uint8)
    image[0, 0, 3] = 0
    data = bytearray(webp.encode(image, 80))
    assert webp.sides_of(memoryview(bytes(data))) == (8, 8)
    assert data[12:16] == b"VP8X"
    data[24] = 200
    assert webp.sides_of(memoryview(bytes(data))) is None
    for size in (7, 101):
        lossless = webp.encode(image, size) if size == 101 else webp.encode(image[..., :3], size)
        assert webp.sides_of(memoryview(lossless)) == (8, 8)
        assert webp.sides_of(memoryview(lossless[:-1])) is None


def test_a_damaged_picture_is_named_when_it_is_shown(tmp_path, members):
    good = members["torso/00000.webp"]
    torso = good[:40] + bytes(len(good) - 40)
    if webp.sides_of(memoryview(torso)) is None:
        torso = good[:-8] + b"\0" * 8
    file = read(tmp_path, zipped({**members, "torso/00000.webp": torso}))
    try:
        file.model.background.layers.composite(0)
    except TalkerFileError as error:
        assert "torso/00000.webp" in str(error)


def test_zips_that_are_refused(tmp_path, members):
    good = zipped(members)
    bomb = zipped({**members, "torso/00000.webp": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    encrypted = bytearray(good)
    encrypted[good.rindex(b"PK\x01\x02") + 8] |= 1
    cases = {
        bomb: "in compressed form",
        bytes(encrypted): "encrypted or streamed",
        zipped({**members, "../../evil.webp": b"x"}): "'../../evil.webp', which is no part of a",
        zipped({**members, "/etc/passwd": b"x"}): "no part of a talker",
        zipped({**members, "torso/": b""}): "no part of a talker",
        zipped({**members, "run.pkl": b"x"}): "no part of a talker",
        zipped({**members, "torso/00003.webp": b"x"}): "holds, and should not, torso/00003.webp",
        zipped({k: v for k, v in members.items() if k != "torso/00002.webp"}): "lacks torso/00002",
        zipped({k: v for k, v in members.items() if k != "talker.json"}): "holds no talker.json",
        good + b"more": "no zip archive, or was cut",
        b"": "no zip archive",
        b"PK" + b"text" * 100: "no zip archive",
        zipped({}): "no zip archive|holds no talker.json",
    }
    for data, message in cases.items():
        with pytest.raises(TalkerFileError, match=message):
            read(tmp_path, data)


def test_names_that_stand_twice(tmp_path, members):
    path = tmp_path / "twice.talker"
    with zipfile.ZipFile(path, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        for name, content in [*members.items(), ("talker.json", b"{}")]:
            file.writestr(name, content)
    with pytest.raises(TalkerFileError, match=r"holds talker\.json twice"):
        read_talker(path)


def test_every_cut_and_every_changed_byte_of_a_member_is_noticed(tmp_path, members):
    good = zipped(members)
    for length in range(0, len(good), max(len(good) // 40, 1)):
        with pytest.raises(TalkerFileError, match="was cut|no zip"):
            read(tmp_path, good[:length])
    place = good.index(members["tensors.safetensors"]) + 5000
    damaged = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    with pytest.raises(TalkerFileError, match=r"holds a damaged tensors\.safetensors"):
        read(tmp_path, damaged)


def test_bounds_come_before_memory(tmp_path, members, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILE_BYTES", 1000)
    with pytest.raises(TalkerFileError, match="more than 1000 bytes"):
        read(tmp_path, zipped(members))
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MOST_MEMBERS", 4)
    with pytest.raises(TalkerFileError, match=f"holds {4 + NUM_FRAMES} members; at most 4"):
        read(tmp_path, zipped(members))
    with pytest.raises(FileNotFoundError, match="No talker file at"):
        read_talker(tmp_path / "nobody.talker")


def test_writing_is_whole_and_replaces_only_on_demand(tmp_path, members):
    path = tmp_path / "me.talker"
    write_archive(path, members.items(), overwrite=False)
    first = path.read_bytes()
    assert read_talker(path).description == tiny_description()
    with pytest.raises(FileExistsError, match="Add --overwrite"):
        write_archive(path, members.items(), overwrite=False)

    def failing():
        yield from list(members.items())[:2]
        raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_archive(path, failing(), overwrite=True)
    assert path.read_bytes() == first
    write_archive(path, members.items(), overwrite=True)
    assert path.read_bytes() == first, "the bytes depend on the talker alone"
    assert [entry.name for entry in tmp_path.iterdir()] == ["me.talker"]
    with pytest.raises(ValueError, match=r"does not end in \.talker"):
        write_archive(tmp_path / "me.zip", members.items(), overwrite=False)
    (tmp_path / "folder.talker").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        write_archive(tmp_path / "folder.talker", members.items(), overwrite=True)


def test_a_file_that_no_reader_would_take_is_not_written(tmp_path, members, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILE_BYTES", 1000)
    with pytest.raises(TalkerFileError, match="Lower --track-seconds"):
        write_archive(tmp_path / "me.talker", members.items(), overwrite=False)
    assert not list(tmp_path.iterdir())


def test_descriptions_survive_json():
    description = tiny_description()
    text = json.dumps(description_json(description)).encode()
    content = parse(text)
    assert content.pop("format") and content.pop("version") == 1
    assert from_json(Description, content, "talker") == description
    assert "_target" not in text.decode()
    assert from_json(TalkingHeadConfig, {}, "head") == TalkingHeadConfig()
    assert from_json(TalkingHeadConfig, as_json(TalkingHeadConfig()), "head") == TalkingHeadConfig()


def test_numbers_that_are_no_numbers():
    for value in (True, "1", None, [], 10**400):
        with pytest.raises(Mismatch, match=r"head\.attention\.dropout"):
            from_json(TalkingHeadConfig, {"attention": {"dropout": value}}, "head")
    with pytest.raises(Mismatch, match="has no talker"):
        from_json(Description, {}, "talker")
