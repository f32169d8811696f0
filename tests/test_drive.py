"""Drive jobs: files, interruptions, bad audio; with a talker that draws its frame numbers."""

import json
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.folder_lock import InUseError
from gaussiantalker_ns.inference import drive_job
from gaussiantalker_ns.inference.drive_job import DriveJob
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.provenance import Origin, dataset_sha256
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.scripts import cli, drive
from gaussiantalker_ns.timebase import num_frames_of

RATE = 16_000


class FrameCounter(Talker):
    """Stands in for a talker: frame k is a picture of brightness k, and may be interrupted."""

    def __init__(self, folder: Path, stop_at: int | None = None):
        checkpoint = folder / "step-000000001.ckpt"
        checkpoint.write_bytes(b"weights")
        (folder / "talker.json").write_text(json.dumps({"schema": 1, "fps": 25}))

        def origin():
            sums = sha256_of(checkpoint), dataset_sha256(DatasetLayout(folder))
            return Origin(checkpoint.name, *sums, None)

        self.checkpoint = SimpleNamespace(method="gaussiantalker-cpu", origin=origin)
        self.stop_at = stop_at
        self.rendered = []

    def render(self, samples, motion=None, scene=None, gain=None, first_frame=0):
        channels = 4 if scene.background == "alpha" else 3
        for index in range(first_frame, num_frames_of(len(samples))):
            if index == self.stop_at:
                raise KeyboardInterrupt
            self.rendered.append(index)
            yield np.full((64, 64, channels), index % 200 + 20, np.uint8)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(drive_job, "SEGMENT_FRAMES", 8)


@pytest.fixture
def wav(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    write_wav(tmp_path / "speech.wav", samples.astype(np.float32))
    return tmp_path / "speech.wav"


def brightness(path):
    with av.open(str(path)) as container:
        return [float(f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]


def test_job_writes_video_sound_and_sidecar(tmp_path, wav):
    output = tmp_path / "talk.mp4"
    shown = []
    DriveJob(wav, output).run(FrameCounter(tmp_path), lambda *state: shown.append(state))
    levels = brightness(output)
    assert len(levels) == 25 and np.abs(np.array(levels) - np.arange(20, 45)).max() <= 1
    with av.open(str(output)) as container:
        assert container.streams.audio and "Synthetic media" in container.metadata["comment"]
    record = json.loads((tmp_path / "talk.mp4.provenance.json").read_text())
    assert record["audio"] == "speech.wav" and record["settings"]["pose"] == "track"
    assert shown[-1][:2] == (25, 25)
    assert not (tmp_path / ".talk.mp4.parts").exists()


def test_interrupted_job_goes_on_and_gives_the_same_file(tmp_path, wav):
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    DriveJob(wav, whole).run(FrameCounter(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        DriveJob(wav, resumed).run(FrameCounter(tmp_path, stop_at=19))
    assert not resumed.exists()
    talker = FrameCounter(tmp_path)
    DriveJob(wav, resumed).run(talker)
    assert talker.rendered == list(range(16, 25))
    assert brightness(resumed) == brightness(whole)


def test_a_video_that_several_have_made_is_the_same(tmp_path, wav):
    """Parts in any order, one of them after an interruption."""
    whole, parted = tmp_path / "whole.mp4", tmp_path / "parted.mp4"
    DriveJob(wav, whole).run(FrameCounter(tmp_path))
    job, folder = DriveJob(wav, parted), tmp_path / "parts"
    folder.mkdir()
    late, early = range(16, 25), range(16)
    job.write_segments(FrameCounter(tmp_path), job.driven(FrameCounter(tmp_path)), late, folder)
    with pytest.raises(KeyboardInterrupt):
        interrupted = FrameCounter(tmp_path, stop_at=11)
        job.write_segments(interrupted, job.driven(interrupted), early, folder)
    talker = FrameCounter(tmp_path)
    job.write_segments(talker, job.driven(talker), early, folder)
    assert talker.rendered == list(range(8, 16))
    segments = [folder / name for name in job.segment_names(range(25))]
    job.join_segments(talker, segments, 25, folder)
    assert packets(parted) == packets(whole) and len(packets(whole)) == 25


def packets(path):
    """The encoded pictures of a video."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.dts is not None]


def test_other_settings_do_not_reuse_parts(tmp_path, wav):
    output = tmp_path / "talk.mp4"
    with pytest.raises(KeyboardInterrupt):
        DriveJob(wav, output).run(FrameCounter(tmp_path, stop_at=19))
    talker = FrameCounter(tmp_path)
    DriveJob(wav, output, motion=MotionConfig(blink="none")).run(talker)
    assert talker.rendered == list(range(25))


@pytest.mark.parametrize("changed", ["blinks.txt", "background.png", "talker.json"])
def test_other_contents_of_the_same_files_do_not_reuse_parts(tmp_path, wav, changed):
    output = tmp_path / "talk.mp4"
    (tmp_path / "blinks.txt").write_text("0\n1\n")
    (tmp_path / "background.png").write_bytes(b"one picture")
    motion = MotionConfig(blink=tmp_path / "blinks.txt")
    scene = Scene(background=str(tmp_path / "background.png"))
    job = DriveJob(wav, output, motion, scene)
    with pytest.raises(KeyboardInterrupt):
        job.run(FrameCounter(tmp_path, stop_at=19))
    talker = FrameCounter(tmp_path)
    with (tmp_path / changed).open("a") as file:
        file.write("\n")
    job.run(talker)
    assert talker.rendered == list(range(25))
    settings = json.loads((tmp_path / "talk.mp4.provenance.json").read_text())["settings"]
    assert {"blink_sha256", "background_sha256", "dataset_sha256"} <= set(settings)
    assert "pose_sha256" not in settings


def test_existing_output_is_kept(tmp_path, wav):
    output = tmp_path / "talk.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="--overwrite"):
        DriveJob(wav, output)
    assert output.read_bytes() == b"precious"
    DriveJob(wav, output, overwrite=True).run(FrameCounter(tmp_path))
    assert len(brightness(output)) == 25


def test_a_recording_is_never_replaced_by_its_video(tmp_path, wav):
    clip = tmp_path / "talk.mp4"
    DriveJob(wav, clip).run(FrameCounter(tmp_path))
    before = clip.read_bytes()
    (tmp_path / "link.mp4").symlink_to(clip)
    for output in (clip, tmp_path / "link.mp4", tmp_path / "x" / ".." / "talk.mp4"):
        (tmp_path / "x").mkdir(exist_ok=True)
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="is the recording .*talk.mp4 .* Choose another"):
                DriveJob(clip, output, overwrite=overwrite)
    several = drive.Config(load_config=tmp_path, audio=(wav, clip), output=tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="is the recording"):
        drive.run(several)
    assert clip.read_bytes() == before and not (tmp_path / "speech.mp4").exists()


def test_no_recording_is_replaced_by_the_video_of_another_one(tmp_path, wav):
    (tmp_path / "clip.mov").write_bytes(b"the second recording")
    (tmp_path / "speech.mp4").hardlink_to(tmp_path / "clip.mov")
    config = drive.Config(
        load_config=tmp_path, audio=(wav, tmp_path / "clip.mov"), output=tmp_path, overwrite=True
    )
    with pytest.raises(ValueError, match="is the recording"):
        drive.run(config)


def test_a_full_disk_is_told_in_one_message(tmp_path, wav, monkeypatch):
    def is_full(path, frame):
        raise OSError(f"{path} could not be written (No space left on device).")

    monkeypatch.setattr(drive_job, "write_image", is_full)
    monkeypatch.setattr(Talker, "load", lambda *_: FrameCounter(tmp_path))
    config = drive.Config(load_config=tmp_path, audio=(wav,), output=tmp_path / "pictures")
    with pytest.raises(OSError, match="could not be written"):
        drive.run(config)
    assert not (tmp_path / "pictures").exists()
    monkeypatch.undo()
    monkeypatch.setattr(Talker, "load", lambda *_: FrameCounter(tmp_path))
    assert drive.run(config) == 0 and len(list((tmp_path / "pictures").iterdir())) == 25


def test_a_folder_with_anything_but_our_pictures_is_never_replaced(tmp_path, wav):
    folder = tmp_path / "home"
    (folder / "photos").mkdir(parents=True)
    (folder / "00000000.png").write_bytes(b"one of ours")
    with pytest.raises(ValueError, match=r"holds 'photos' \(1 of 2 entries"):
        DriveJob(wav, folder, overwrite=True)
    (folder / "photos").rmdir()
    job = DriveJob(wav, folder, overwrite=True)
    (folder / "diary.txt").write_text("came while the job was waiting")
    with pytest.raises(ValueError, match=r"holds 'diary\.txt'"):
        job.run(FrameCounter(tmp_path))
    assert (folder / "diary.txt").exists() and (folder / "00000000.png").read_bytes()


def test_pictures_replace_pictures(tmp_path, wav):
    folder = tmp_path / "pictures"
    DriveJob(wav, folder).run(FrameCounter(tmp_path))
    assert len(list(folder.iterdir())) == 25
    DriveJob(wav, folder, end_s=0.4, overwrite=True).run(FrameCounter(tmp_path))
    assert sorted(path.name for path in folder.iterdir()) == [f"{k:08d}.png" for k in range(10)]
    assert not (tmp_path / ".pictures.parts").exists()


def test_files_and_folders_do_not_take_each_other_s_place(tmp_path, wav):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "plain").write_text("a file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name, message in (
        ("folder.mp4", "is a folder; expected the name of a video"),
        ("plain", "is a file or a link; expected a folder"),
        ("link", "is a file or a link; expected a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            DriveJob(wav, tmp_path / name, overwrite=True)


def test_part_of_the_audio(tmp_path, wav):
    output = tmp_path / "part.mp4"
    DriveJob(wav, output, start_s=0.2, end_s=0.6).run(FrameCounter(tmp_path))
    assert len(brightness(output)) == 10
    with pytest.raises(ValueError, match=r"lasts 1\.00 s"):
        DriveJob(wav, tmp_path / "x.mp4", start_s=3.0).run(FrameCounter(tmp_path))


def test_a_silent_recording_is_said_before_it_is_driven(tmp_path, wav):
    assert DriveJob(wav, tmp_path / "a.mp4").notices() == []
    quiet = tmp_path / "quiet.wav"
    write_wav(quiet, np.full(16_000, 1e-4, np.float32))
    said = DriveJob(quiet, tmp_path / "b.mp4").notices()
    assert len(said) == 1 and "Nothing is heard in quiet.wav" in said[0]


def test_the_named_track_drives(tmp_path, wav):
    with pytest.raises(ValueError, match="--audio-track is 2.*1 audio track"):
        DriveJob(wav, tmp_path / "a.mp4", audio_track=2).run(FrameCounter(tmp_path))
    DriveJob(wav, tmp_path / "a.mp4", audio_track=1).run(FrameCounter(tmp_path))
    assert (tmp_path / "a.mp4").is_file()


def test_transparent_outputs(tmp_path, wav):
    scene = Scene(background="alpha")
    with pytest.raises(ValueError, match="cannot be transparent"):
        DriveJob(wav, tmp_path / "talk.mp4", scene=scene)
    DriveJob(wav, tmp_path / "talk.mov", scene=scene).run(FrameCounter(tmp_path))
    assert len(brightness(tmp_path / "talk.mov")) == 25
    DriveJob(wav, tmp_path / "pictures", scene=scene).run(FrameCounter(tmp_path))
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 25


def test_opaque_frames_fit_a_format_with_alpha(tmp_path, wav):
    DriveJob(wav, tmp_path / "talk.mov").run(FrameCounter(tmp_path))
    assert len(brightness(tmp_path / "talk.mov")) == 25


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"this is text, not sound", "cannot be read")]
)
def test_files_without_sound(tmp_path, content, message):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        DriveJob(path, tmp_path / "x.mp4").run(FrameCounter(tmp_path))


def test_missing_audio_is_named(tmp_path):
    config = drive.Config(
        load_config=tmp_path, audio=(tmp_path / "gone.wav",), output=tmp_path / "x.mp4"
    )
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        drive.run(config)


def test_several_files_need_several_names(tmp_path):
    config = drive.Config(
        load_config=tmp_path, audio=(Path("a/x.wav"), Path("b/x.mp3")), output=tmp_path / "out"
    )
    with pytest.raises(ValueError, match="same video"):
        config.outputs()
    config = drive.Config(
        load_config=tmp_path, audio=(Path("a.wav"), Path("b.mp3")), output=tmp_path / "out"
    )
    assert config.outputs() == [tmp_path / "out" / "a.mp4", tmp_path / "out" / "b.mp4"]


def test_a_second_job_for_the_same_output_is_refused(tmp_path, wav):
    output = tmp_path / "talk.mp4"
    first, second = DriveJob(wav, output), DriveJob(wav, output)

    def meanwhile(done: int, total: int, fps: float) -> None:
        if done == 3:
            with pytest.raises(InUseError, match=f"^{output} is in use by"):
                second.run(FrameCounter(tmp_path))

    first.run(FrameCounter(tmp_path), meanwhile)
    assert len(brightness(output)) == 25 and not list(tmp_path.glob(".talk.mp4*"))
    made = output.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        second.run(FrameCounter(tmp_path))
    assert output.read_bytes() == made


def test_an_output_in_use_is_told_before_the_run_is_loaded(tmp_path, wav, monkeypatch):
    monkeypatch.setattr(Talker, "load", lambda *_: pytest.fail("loaded"))
    config = drive.Config(load_config=tmp_path, audio=(wav,), output=tmp_path / "talk.mp4")
    with DriveJob(wav, config.output).lock, pytest.raises(InUseError, match="is in use by"):
        drive.run(config)


def test_ctrl_c_leaves_the_output_free(tmp_path, wav, monkeypatch, capsys):
    monkeypatch.setattr(Talker, "load", lambda *_: FrameCounter(tmp_path, stop_at=19))
    output = tmp_path / "talk.mp4"
    arguments = ["--load-config", str(tmp_path), "--audio", str(wav), "--output", str(output)]
    assert cli.run_command("drive", arguments) == 130
    assert capsys.readouterr().err == "Interrupted. Give the same command again to go on.\n"
    monkeypatch.setattr(Talker, "load", lambda *_: FrameCounter(tmp_path))
    assert cli.run_command("drive", arguments) == 0 and len(brightness(output)) == 25


def test_other_programs_are_told_how_far_it_is(tmp_path, wav, monkeypatch):
    monkeypatch.setattr(Talker, "load", lambda *_: FrameCounter(tmp_path))
    told = tmp_path / "told" / "progress.json"
    config = drive.Config(audio=(wav,), output=tmp_path / "talk.mp4", progress_file=told)
    assert drive.run(config) == 0
    assert json.loads(told.read_text()) == {"done": 25, "total": 25}
