"""The synthetic sample: mouth shapes, motion, renderer, truth, and the generator end to end."""

import hashlib
import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest

from gaussiantalker_ns.assets import ASSETS_DIR
from gaussiantalker_ns.scripts.dev.make_sample import SampleConfig
from gaussiantalker_ns.scripts.dev.sample import encode, motion, rasterizer, shading, visemes
from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS
from gaussiantalker_ns.scripts.dev.sample.speech import Phoneme
from gaussiantalker_ns.scripts.dev.sample.subdivide import catmull_clark
from gaussiantalker_ns.scripts.dev.sample.truth import Truth

SAMPLE = ASSETS_DIR / "sample"
PIXEL_TOLERANCE = 1e-3
"""Single-precision projection at 64 px leaves about 1e-5 px."""

needs_anny = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None or importlib.util.find_spec("espeakng_loader") is None,
    reason="needs the extra [sample]",
)


def _utterance(*symbols: str, length: float = 0.09) -> list[Phoneme]:
    """Return phonemes of equal length after 0.3 s of silence."""
    marks = [Phoneme("_", 0.0, 0.3, 0)]
    for k, symbol in enumerate(symbols):
        marks.append(Phoneme(symbol, 0.3 + k * length, 0.3 + (k + 1) * length, 2 * (symbol == "A")))
    return [*marks, Phoneme("_", marks[-1].end, marks[-1].end + 0.5, 0)]


def _column(weights: np.ndarray, name: str) -> np.ndarray:
    return weights[:, CHANNELS.index(name)]


@pytest.mark.parametrize("lips", ["p", "b", "m"])
def test_lips_close_on_bilabials(lips: str) -> None:
    """Between two open vowels the lips seal: the closing weight equals the jaw's."""
    phonemes = _utterance("A", lips, "A")
    times = np.arange(0.0, 1.0, 0.005)
    weights = visemes.mouth_weights(phonemes, 1.0, times)
    jaw, close = _column(weights, "jawOpen"), _column(weights, "mouthClose")
    middle = np.abs(times - 0.435) < 0.02
    assert np.allclose(jaw[middle], close[middle])
    assert jaw[middle].max() < 0.5 * jaw.max()
    assert close[np.abs(times - 0.31) < 0.01].max() < 0.02


def test_any_frame_grid_catches_a_bilabial() -> None:
    """However 25 fps falls on a short p, one frame shows closed lips."""
    phonemes = _utterance("A", "p", "A", length=0.05)
    for shift in np.arange(0.0, 0.04, 0.005):
        weights = visemes.mouth_weights(phonemes, 1.0, shift + np.arange(0, 0.9, 0.04))
        gap = _column(weights, "jawOpen") - _column(weights, "mouthClose")
        during = gap[(shift + np.arange(0, 0.9, 0.04) > 0.30)][:8]
        assert during.min() < 0.01


def test_visemes_round_and_tuck() -> None:
    """`u` puckers, `i` spreads, `f` rolls the lower lip in, silence closes the mouth."""
    times = np.array([0.345])
    shape = {
        symbol: visemes.mouth_weights(_utterance(symbol), 1.0, times)[0]
        for symbol in ("u:", "i:", "f", "_")
    }
    pucker, stretch = CHANNELS.index("mouthPucker"), CHANNELS.index("mouthStretchLeft")
    assert shape["u:"][pucker] > 0.3 > 0.05 > shape["i:"][pucker]
    assert shape["i:"][stretch] > 0.05 > shape["u:"][stretch]
    assert shape["f"][CHANNELS.index("mouthRollLower")] > 0.4
    assert shape["_"][CHANNELS.index("jawOpen")] == 0.0


def test_rounding_is_anticipated() -> None:
    """The lips round before the vowel of `too` begins, while `tea` stays unrounded."""
    before = np.array([0.37])
    pucker = CHANNELS.index("mouthPucker")
    too = visemes.mouth_weights(_utterance("t", "u:"), 1.0, before)[0, pucker]
    tea = visemes.mouth_weights(_utterance("t", "i:"), 1.0, before)[0, pucker]
    assert too > 0.1 > tea


def test_every_symbol_has_a_target() -> None:
    """Length marks, variants and unknown symbols all give something."""
    assert visemes.targets_of("u:") == visemes.VOWELS["u"]
    assert visemes.targets_of("I2") == visemes.VOWELS["I"]
    assert visemes.targets_of("oU") == visemes.VOWELS["oU"]
    assert visemes.targets_of("_:") == (visemes.REST,)
    assert visemes.targets_of("?") == visemes.VOWELS["@"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_motion_stays_in_bounds_and_blinks(seed: int) -> None:
    """Angles keep their limits, lids shut fully, and blinks come at a natural rate."""
    times = (np.arange(1000) + 0.5) / 25
    acted = motion.perform(_utterance("A", "m", "A"), times, np.random.default_rng(seed))
    limits = [motion.YAW_LIMIT_DEG, motion.PITCH_LIMIT_DEG, motion.ROLL_LIMIT_DEG]
    assert (np.abs(acted.head_angles_deg) <= limits).all()
    assert np.abs(np.diff(acted.head_angles_deg[:, 0])).max() < 2.5
    lids = _column(acted.weights, "eyeBlinkLeft")
    shut = (lids[1:] > 0.9) & (lids[:-1] <= 0.9)
    assert 7 <= shut.sum() <= 22
    assert 0.0 <= lids.min() and 0.9 < lids.max() <= 1.0


def test_motion_is_deterministic() -> None:
    """The same seed gives the same motion, another seed another."""
    times = (np.arange(100) + 0.5) / 25
    first, second, other = (
        motion.perform(_utterance("A"), times, np.random.default_rng(seed)) for seed in (4, 4, 5)
    )
    assert np.array_equal(first.head_angles_deg, second.head_angles_deg)
    assert not np.array_equal(first.head_angles_deg, other.head_angles_deg)


def test_rotation_turns_the_face_as_documented() -> None:
    """Yaw takes z to +x, pitch takes z to +y, roll takes y to -x."""
    assert np.allclose(motion.rotation(np.array([90.0, 0, 0])) @ [0, 0, 1], [1, 0, 0])
    assert np.allclose(motion.rotation(np.array([0, 90.0, 0])) @ [0, 0, 1], [0, 1, 0])
    assert np.allclose(motion.rotation(np.array([0, 0, 90.0])) @ [0, 1, 0], [-1, 0, 0])


def test_camera_transform_keeps_the_neck_in_place() -> None:
    """However the head turns, the pivot stays where the torso holds it."""
    times = (np.arange(50) + 0.5) / 25
    acted = motion.perform(_utterance("A"), times, np.random.default_rng(0))
    pivot, offset = np.array([0.0, -0.06, -0.05]), np.array([0.0, 0.0, 1.2])
    head, torso = motion.camera_transforms(acted, pivot, offset)
    assert np.allclose(
        head[:, :3, :3] @ pivot + head[:, :3, 3], torso[:, :3, :3] @ pivot + torso[:, :3, 3]
    )
    assert np.allclose(np.linalg.det(head[:, :3, :3]), 1.0)


def _empty(size: int) -> rasterizer.SurfaceBuffer:
    return rasterizer.SurfaceBuffer(size, size)


def test_triangle_covers_the_pixels_one_can_draw() -> None:
    """A right triangle over a 4 px square covers the 10 centres on and under its diagonal."""
    screen = np.array([[0, 0, 1], [4, 0, 1], [0, 4, 1]], np.float32)
    buffer = _empty(4)
    rasterizer.draw_triangles(
        screen, np.array([[0, 1, 2]], np.int32), buffer.depth, buffer.primitive, buffer.local
    )
    rows, columns = np.mgrid[0:4, 0:4]
    assert np.array_equal(buffer.primitive == 0, rows + columns + 1 <= 4)
    assert np.allclose(buffer.local[1, 2], [(2 + 0.5) / 4, (1 + 0.5) / 4])


def test_weights_are_perspective_correct() -> None:
    """Halfway across the screen between depths 1 and 3 one is at 1.5, a quarter of the way."""
    points = np.array([[-0.5, -5, 1], [1.5, 0, 3], [-0.5, 5, 1]])
    screen = rasterizer.project(points, 4.0, 2.5, 2.5).astype(np.float32)
    buffer = _empty(5)
    rasterizer.draw_triangles(
        screen, np.array([[0, 1, 2]], np.int32), buffer.depth, buffer.primitive, buffer.local
    )
    assert np.isclose(buffer.depth[2, 2], 1.5)
    assert np.isclose(buffer.local[2, 2, 0], 0.25)


def test_nearer_surface_wins_in_any_order() -> None:
    """Depth decides, not the order of drawing; hair in front of skin shows."""
    screen = np.array(
        [[-9, -9, 2], [20, -9, 2], [-9, 20, 2], [-9, -9, 1], [20, -9, 1], [-9, 20, 1]], np.float32
    )
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        buffer = _empty(4)
        rasterizer.draw_triangles(
            screen, np.array(faces, np.int32), buffer.depth, buffer.primitive, buffer.local
        )
        assert (buffer.depth == 1).all()
        line = np.array([[0, 1.5, 0.5], [4, 1.5, 0.5]], np.float32)
        rasterizer.draw_segments(
            line, np.ones(2, np.float32), np.array([[0, 1]], np.int32), 2,
            buffer.depth, buffer.primitive, buffer.local,
        )  # fmt: skip
        assert (buffer.primitive[1] == 2).all() and (buffer.primitive[2] < 2).all()


def test_brighter_towards_the_key_light() -> None:
    """A surface facing the key light outshines one facing away, and red reaches into shadow."""
    albedo, lit, away = np.full(3, 0.5), np.zeros(3), np.zeros(3)
    key = shading.LIGHTS[0].astype(float)
    for normal, out in ((key, lit), (-key, away)):
        shading.shade_surface(
            albedo,
            normal,
            1.0,
            1.0,
            0.35,
            1.0,
            0.0,
            20.0,
            0.0,
            shading.LIGHTS,
            shading.COLOURS,
            out,
        )
    assert (lit > away).all() and (away > 0).all()


def test_subdivision_of_a_cube() -> None:
    """One level turns 8 corners into 26 vertices and pulls corners in to 5/9 of their distance."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    faces = np.array(
        [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    )
    level = catmull_clark(faces, 8)
    points = level.matrix @ corners
    assert points.shape == (26, 3) and level.faces.shape == (24, 4)
    assert np.allclose(points[:8], corners * 5 / 9)
    assert np.allclose(np.asarray(level.matrix.sum(axis=1)), 1.0)


def test_mp4_keeps_sound_and_picture_together(tmp_path: Path) -> None:
    """A click at 0.5 s in a two-second clip comes back at 0.5 s, despite AAC's priming."""
    rate = 22050
    samples = np.zeros(2 * rate, np.float32)
    samples[rate // 2 : rate // 2 + 60] = 0.9
    frames = [np.full((64, 64, 3), value, np.uint8) for value in range(50)]
    encode.write_mp4(tmp_path / "clip.mp4", frames, 25, samples, rate)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert len(list(container.decode(video=0))) == 50
    with av.open(str(tmp_path / "clip.mp4")) as container:
        decoded = list(container.decode(audio=0))
        sound = np.concatenate([frame.to_ndarray()[0] for frame in decoded])
        start = float(decoded[0].pts * decoded[0].time_base)
    click = start + np.abs(sound).argmax() / encode.AUDIO_RATE_HZ
    assert abs(click - 0.5) < 0.004


def test_wrong_settings_say_what_to_do() -> None:
    """Odd sizes and empty clips are refused with advice."""
    with pytest.raises(ValueError, match="--size 256"):
        SampleConfig(size=63)
    with pytest.raises(ValueError, match="--seconds 2"):
        SampleConfig(seconds=0.0)


def _shipped_truth() -> Truth:
    return Truth.load(SAMPLE / "truth.npz")


def test_shipped_truth_fits_the_shipped_clip() -> None:
    """One pose per frame; the face is inside the picture; lips close on every p, b and m."""
    truth = _shipped_truth()
    with av.open(str(SAMPLE / "presenter.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == tuple(truth.size)
        assert stream.frames == len(truth.T_camera_head)
        assert len(container.streams.audio) == 1
    assert (SAMPLE / "presenter.mp4").stat().st_size <= 2_000_000
    points = truth.landmarks_px()
    assert (points > 0).all() and (points < truth.size).all()
    opening = truth.mouth_opening_mm
    for symbol, (start, end) in zip(truth.phonemes, truth.phoneme_times):
        if symbol[:1] in "pbm" and symbol[:1]:
            first = int((start - 0.04) * 25)
            assert opening[max(first, 0) : int((end + 0.04) * 25) + 1].min() < 0.1, (symbol, start)


def test_shipped_mouth_follows_the_sound() -> None:
    """Mouth opening and loudness agree best at a lag of at most one frame."""
    truth = _shipped_truth()
    with av.open(str(SAMPLE / "presenter.mp4")) as container:
        decoded = list(container.decode(audio=0))
    sound = np.concatenate([frame.to_ndarray()[0] for frame in decoded])
    rate, count = decoded[0].sample_rate, len(truth.mouth_opening_mm)
    hop = rate // 25
    sound = np.pad(sound, (0, max(count * hop - len(sound), 0)))[: count * hop]
    level = np.sqrt((sound.reshape(count, hop) ** 2).mean(axis=1))
    opening = truth.mouth_opening_mm
    scores = {
        lag: np.corrcoef(opening[5:-5], np.roll(level, lag)[5:-5])[0, 1] for lag in range(-5, 6)
    }
    best = max(scores, key=scores.__getitem__)
    assert abs(best) <= 1 and scores[best] > 0.4


@needs_anny
@pytest.mark.slow
def test_generator_end_to_end(tmp_path: Path) -> None:
    """Two short runs agree to the byte in truth and frames, and truth lies on the mesh."""
    from gaussiantalker_ns.scripts.dev import make_sample
    from gaussiantalker_ns.scripts.dev.sample import clip as clips
    from gaussiantalker_ns.scripts.dev.sample.character import build_character
    from gaussiantalker_ns.scripts.dev.sample.renderer import Renderer, pose_character
    from gaussiantalker_ns.scripts.dev.sample.truth import tie_landmarks

    config = SampleConfig(seconds=0.6, size=128, supersampling=2)
    digests = []
    for name, workers in (("one", 1), ("two", 2)):
        character = build_character()
        _, speech = make_sample.speak(config)
        clip = clips.compose(speech, config.size, config.seed, character.neck_pivot)
        folder = tmp_path / name
        folder.mkdir()
        clips.make_clip(
            character, clip, folder, config.supersampling, workers, lambda frames: frames
        )
        digests.append(hashlib.sha256((folder / "truth.npz").read_bytes()).hexdigest())
    assert digests[0] == digests[1]

    truth = Truth.load(tmp_path / "one" / "truth.npz")
    renderer = Renderer(character, 512, clips.FOCAL_FACTOR * 512, 2)
    landmarks = tie_landmarks(character, renderer, clips.neutral_pose())
    for index in (0, 7, 14):
        camera = landmarks.of(pose_character(character, clip.poses[index]).vertices)
        expected = rasterizer.project(camera, clip.focal, 64.0, 64.0)[:, :2]
        assert np.abs(expected - truth.landmarks_px()[index]).max() < PIXEL_TOLERANCE


@needs_anny
def test_speech_has_phonemes_in_order() -> None:
    """Phonemes follow each other, within the sound, and an unknown voice is refused."""
    from gaussiantalker_ns.scripts.dev.sample.speech import Utterance, Voice, record, say

    utterance = Utterance("Bob may move.", Voice("en-us"), lead_in=0.2, tail=0.1)
    (speech,) = record([utterance])
    (again,) = record([utterance])
    assert np.array_equal(speech.samples, again.samples) and speech.phonemes == again.phonemes
    starts = [item.start for item in speech.phonemes]
    assert starts == sorted(starts) and starts[0] >= 0.2
    assert speech.phonemes[-1].end <= speech.duration
    assert {"b", "m", "v"} <= {item.symbol for item in speech.phonemes}
    with pytest.raises(ValueError, match="not an espeak-ng voice"):
        say(Utterance("Hello.", Voice("nobody")))
