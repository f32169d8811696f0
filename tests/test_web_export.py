"""Exported pages, folders and PLY files: what is in them, and what is refused."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from talker_files import tiny_description
from web_talkers import description, run_node, speech_like, write_talker

from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.scripts.dev.make_web import build
from gaussiantalker_ns.web.carried import obstacle
from gaussiantalker_ns.web.encoding import GROUP, encode, kind_of
from gaussiantalker_ns.web.export import ExportOptions, export
from gaussiantalker_ns.web.files import MANIFEST, MODULES, NATIVE_DIR, SOURCES, bundle, read_module
from gaussiantalker_ns.web.page import text_of

NERFSTUDIO_PROPERTIES = (
    "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 f_rest_0 f_rest_1 f_rest_2 f_rest_3 f_rest_4 f_rest_5"
    " f_rest_6 f_rest_7 f_rest_8 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
)
"""What `ns-export gaussian-splat` of Nerfstudio 1.1.5 writes for degree 1, in its order."""


@pytest.fixture(scope="module")
def talker(tmp_path_factory) -> Path:
    """A talker whose owner writes markup."""
    folder = tmp_path_factory.mktemp("talker")
    said = description(consent={"statement": "</script><b>I agree</b>"}, licence="<i>CC0</i>")
    return write_talker(folder / "me & <you>.talker", said)


def test_a_page_holds_everything_and_asks_for_nothing(talker, tmp_path):
    written = export(talker, tmp_path / "me.html", ExportOptions())
    page = written.path.read_text(encoding="utf-8")
    assert written.num_bytes == len(page.encode()) and written.has_consent
    assert "<title>me &amp; &lt;you&gt;</title>" in page
    assert "default-src &#x27;none&#x27;" in page and "connect-src" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://(?!www\.apache)""", page)
    # Markup of its owner is in the packed talker alone, which is text of base 85.
    assert "I agree" not in page and "<i>" not in page
    # Six elements of ours, each of which ends once.
    assert page.count("<script") == page.count("</script>") == 5
    assert "Synthetic media" in page


def test_a_folder_holds_the_module_and_its_files(talker, tmp_path):
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"RIFF")
    options = ExportOptions(format="folder", audio=sound)
    written = export(talker, tmp_path / "me", options)
    names = {path.name for path in written.path.iterdir()}
    assert names == {
        "talker.mjs",
        "worker.js",
        "page.mjs",
        "index.html",
        "talker.gtweb",
        "example.sound",
        *MODULES,
    }
    assert "export const { load, Talker }" in (written.path / "talker.mjs").read_text()
    assert (written.path / "example.sound").read_bytes() == b"RIFF"
    with pytest.raises(FileExistsError, match="exists already"):
        export(talker, written.path, options)
    export(talker, written.path, ExportOptions(format="folder"), overwrite=True)
    assert not (written.path / "example.sound").exists()


def test_a_ply_is_what_nerfstudio_writes(talker, tmp_path):
    written = export(talker, tmp_path / "me.ply", ExportOptions(format="ply"))
    header, body = written.path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    properties = [line.split() for line in lines if line.startswith("property")]
    assert [kind for _, kind, _ in properties] == ["float"] * len(properties)
    names = [name for _, _, name in properties]
    assert names == NERFSTUDIO_PROPERTIES.split()
    gaussians = read_talker(talker).model.canonical_gaussians()
    rows = np.frombuffer(body, "<f4").reshape(len(gaussians), len(names))
    np.testing.assert_array_equal(rows[:, :3], gaussians.means)
    np.testing.assert_array_equal(rows[:, names.index("opacity")], gaussians.opacity_logits)
    # All reds first, as the original viewers want them.
    np.testing.assert_array_equal(rows[:, names.index("f_rest_1")], gaussians.sh[:, 2, 0])
    assert f"element vertex {len(rows)}" in lines


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("me.zip", ExportOptions(), "expected .html for --format html"),
        ("me.html", ExportOptions(format="folder"), "a folder's name"),
        ("none/me.html", ExportOptions(), "does not exist"),
        ("me.html", ExportOptions(audio=Path("none.wav")), "expected a sound file"),
        ("me.html", ExportOptions(track_seconds=0.0), "--track-seconds is 0"),
        ("me.html", ExportOptions(track_seconds=float("nan")), "--track-seconds is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(talker, tmp_path, name, options, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        export(talker, tmp_path / name, options)
    assert list(tmp_path.iterdir()) == []


def test_runs_and_other_folders_are_not_taken(talker, tmp_path):
    with pytest.raises(ValueError, match="gaussiantalker pack"):
        export(tmp_path, tmp_path / "me.html", ExportOptions())
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError, match="no exported talker"):
        export(talker, tmp_path / "photos", ExportOptions(format="folder"), overwrite=True)


def changed(part: str, **changes):
    """The tiny talker's description with other values in a part of its head."""
    said = tiny_description()
    parts = {part: dataclasses.replace(getattr(said.head, part), **changes)}
    return dataclasses.replace(said, head=dataclasses.replace(said.head, **parts))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (changed("attention", num_layers=2), "2 attention layers"),
        (changed("attention", feed_forward_width=128), "a feed-forward network of 128"),
        (changed("deformation", joint=False), "a network of its own"),
        (changed("tokens", width=20), "tokens.width 20"),
        (tiny_description(num_gaussians=200_000), "200000 Gaussians"),
        (
            tiny_description(
                audio=dataclasses.replace(tiny_description().audio, encoder="wav2vec2")
            ),
            "features of wav2vec2",
        ),
        (
            dataclasses.replace(
                tiny_description(),
                head=dataclasses.replace(tiny_description().head, fusion="concat"),
            ),
            "by 'concat'",
        ),
    ],
)
def test_talkers_that_browsers_cannot_run(said, words):
    found = obstacle(said)
    assert (
        found is not None and words in found[0] and found[1].endswith(("export that talker.", "."))
    )


def test_a_talker_of_the_paper_is_refused_with_a_remedy(tmp_path):
    path = write_talker(tmp_path / "two.talker", changed("attention", num_layers=2))
    with pytest.raises(ValueError, match="ns-train gaussiantalker-cpu"):
        export(path, tmp_path / "me.html", ExportOptions())


@pytest.mark.node
def test_many_gaussians_are_drawn(tmp_path):
    path = write_talker(tmp_path / "many.talker", description(num_gaussians=30_000))
    export(path, tmp_path / "many", ExportOptions(format="folder"))
    (tmp_path / "talker.gtweb").write_bytes((tmp_path / "many" / "talker.gtweb").read_bytes())
    speech_like(1280).tofile(tmp_path / "samples.f32")
    np.zeros(2 * 4 * 32 * 32, np.uint8).tofile(tmp_path / "behind.u8")
    told = run_node(tmp_path, task="drive", frames=[0, 1], places=[], turn=None, blink=True)
    assert told["numTokens"] == 2
    assert np.fromfile(tmp_path / "pictures.u8", np.uint8).reshape(2, -1, 4)[..., :3].max() > 60


def test_numbers_keep_their_size():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 5)).astype(np.float32) * [1, 10, 100, 0.01, 0]
    data = encode(values.astype(np.float32), "i8")
    num_groups = -(-300 // GROUP)
    factors = np.frombuffer(data, "<f2", num_groups * 5).reshape(num_groups, 5).astype(np.float32)
    numbers = np.frombuffer(data[-1500:], np.int8).reshape(300, 5)
    back = numbers * factors.repeat(GROUP, axis=0)[:300]
    limits = np.abs(values).max(axis=0) / 127
    assert (np.abs(back - values).max(axis=0) <= 0.51 * limits + 1e-6).all()
    assert kind_of("whisper.0.query.weight", "int8") == "i8"
    assert kind_of("whisper.0.query.bias", "int8") == "f16"
    assert kind_of("head.means", "int8") == "u16" and kind_of("head.means", "float16") == "f32"
    assert kind_of("track.poses", "int8") == "f32"


def test_text_of_bytes_has_nothing_that_html_reads():
    text = text_of(bytes(range(256)) * 40)
    assert len(text) == 256 * 40 * 5 // 4 and not set(text) & set("<>&\"'\\ ")


def test_shipped_modules_belong_to_their_sources():
    sums = json.loads(MANIFEST.read_text())["sha256"]
    assert set(sums) == {*SOURCES, *MODULES}
    for name, wanted in sums.items():
        assert hashlib.sha256((NATIVE_DIR / name).read_bytes()).hexdigest() == wanted, name
    assert read_module("kernels.wasm").startswith(b"\0asm")


def test_scripts_join_without_imports_left():
    for entry in ("talker", "worker", "page", "inline"):
        text = bundle(entry, is_module=False)
        assert not re.search(r"^\s*(import|export) ", text, re.MULTILINE)


@pytest.mark.wasm
@pytest.mark.node
def test_rebuilt_modules_behave_as_the_shipped_ones(talker, tmp_path):
    """By another compiler the bytes may differ, and the last bits of what they compute."""
    built = tmp_path / "built"
    built.mkdir()
    build(built)
    export(talker, tmp_path / "site", ExportOptions(format="folder"))
    (tmp_path / "talker.gtweb").write_bytes((tmp_path / "site" / "talker.gtweb").read_bytes())
    speech_like(8 * 640).tofile(tmp_path / "samples.f32")
    np.zeros(4 * 32 * 32, np.uint8).tofile(tmp_path / "behind.u8")
    found = []
    for native in (NATIVE_DIR, built):
        run_node(tmp_path, native, task="drive", frames=[5], places=[], turn=None, blink=True)
        names = ("rows.f32", "tokens.f32")
        arrays = [np.fromfile(tmp_path / name, np.float32) for name in names]
        found.append([*arrays, np.fromfile(tmp_path / "pictures.u8", np.uint8).astype(float)])
    for shipped, rebuilt, tolerance in zip(*found, (1e-4, 1e-4, 1.0)):
        assert np.ptp(shipped) > 0.1
        np.testing.assert_allclose(rebuilt, shipped, atol=tolerance)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, gaussiantalker_ns.web.export;"
        "sys.exit(any(n in sys.modules for n in ('nerfstudio', 'transformers', 'gsplat')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
