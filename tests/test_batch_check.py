"""`batch --check`: a row that is bad in any way is found before anything is made."""

from pathlib import Path

import numpy as np
import pytest
from small_videos import steady, write_video
from talker_files import tiny_description, tiny_members, zipped

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.batch.job import BatchJob, BatchOptions
from gaussiantalker_ns.batch.status import Status
from gaussiantalker_ns.scheduler.run import ThisProcess
from gaussiantalker_ns.scripts import cli

COLUMNS = "name,video,talker,audio,text,voice,consent,process.crop,drive.background,drive.start"

ROWS = {
    "fine": ("presenter.mp4,,ok.wav,,,yes,,,", None),
    "fine-talker": (",her.talker,ok.wav,,,,,,", None),
    "fine-crop": ('faceless.mkv,,ok.wav,,,yes,"0,0,64",,', None),
    "faceless": ("faceless.mkv,,ok.wav,,,yes,,,", "No face was found in"),
    "short": ("short.mkv,,ok.wav,,,yes,,,", "is 1.0 s long; expected at least 3 s"),
    "mute": ("mute.mkv,,ok.wav,,,yes,,,", "no audio"),
    "no-video": ("text.txt,,ok.wav,,,yes,,,", "cannot be read as a video"),
    "crop": ('faceless.mkv,,ok.wav,,,yes,"0,0,999",,', "--crop 0,0,999 does not lie in"),
    "missing": ("gone.mp4,,ok.wav,,,yes,,,", "gone.mp4, which is not there"),
    "cut-talker": (",cut.talker,ok.wav,,,,,,", "expected a talker file"),
    "no-consent": (",nobody.talker,ok.wav,,,,,,", "records no consent of the person shown"),
    "no-statement": ("presenter.mp4,,ok.wav,,,,,,", "no consent of the person in the video"),
    "no-sound": (",her.talker,text.txt,,,,,,", "cannot be read as audio"),
    "late": (",her.talker,ok.wav,,,,,,7", "drive.start is 7.0 s, but"),
    "picture": (",her.talker,ok.wav,,,,,text.txt,", "text.txt"),
    "wrong": (",her.talker,ok.wav,,,,,#00,", "six hexadecimal digits"),
    "nothing-said": (",her.talker,,...,,,,,", "expected"),
}
"""Name -> cells, and what is wrong with them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check")
    (root / "presenter.mp4").symlink_to(asset_path("sample/presenter.mp4"))
    write_video(root / "faceless.mkv", steady(80))
    write_video(root / "short.mkv", steady(25))
    write_video(root / "mute.mkv", steady(80), sound=False)
    (root / "text.txt").write_text("This is no recording.")
    write_wav(root / "ok.wav", np.full(16_000, 0.1, np.float32))
    whole = zipped(tiny_members())
    (root / "her.talker").write_bytes(whole)
    (root / "cut.talker").write_bytes(whole[:-100])
    nobody = zipped(tiny_members(tiny_description(consent=None)))
    (root / "nobody.talker").write_bytes(nobody)
    lines = [f"{name},{cells}" for name, (cells, _) in ROWS.items()]
    (root / "jobs.csv").write_text("\n".join([COLUMNS, *lines]) + "\n")
    return root


def test_every_kind_of_bad_row_is_found_before_anything_is_made(folder: Path):
    options = BatchOptions(require_consent=True)
    job = BatchJob(str(folder / "jobs.csv"), str(folder / "out"), options)
    bad = job.check(ThisProcess())
    found = {row.name: row.reason for row in bad}
    for name, (_, message) in ROWS.items():
        assert (name in found) == (message is not None), (name, found.get(name))
        assert message is None or message in found[name], (name, found[name])
    assert [row.number for row in bad] == sorted(row.number for row in bad)
    assert not (folder / "out").exists()


def test_without_the_option_consent_is_not_asked_for(folder: Path):
    job = BatchJob(str(folder / "jobs.csv"), str(folder / "out"))
    names = {row.name for row in job.check(ThisProcess())}
    assert not {"no-consent", "no-statement"} & names


def test_the_command_says_what_it_found(folder: Path, monkeypatch, capsys):
    monkeypatch.setattr(BatchOptions, "workers", lambda options: ThisProcess())
    lines = (folder / "jobs.csv").read_text().splitlines()
    table = folder / "two.csv"
    table.write_text("\n".join([COLUMNS, lines[2], f"late,{ROWS['late'][0]}"]) + "\n")
    asked = [str(table), "--output-dir", str(folder / "out"), "--check"]
    assert cli.run_command("batch", asked) == 1
    shown = capsys.readouterr().out
    assert "line 3, late: drive.start is 7.0 s" in shown and "Nothing was made." in shown
    table.write_text("\n".join([COLUMNS, lines[2]]) + "\n")
    assert cli.run_command("batch", asked) == 0
    assert "Every row can be done" in capsys.readouterr().out


def test_no_talker_without_consent_is_driven(folder: Path):
    """Also when nobody has asked for `--check`."""
    table = folder / "one.csv"
    table.write_text(f"{COLUMNS}\nx,{ROWS['no-consent'][0]}\n")
    job = BatchJob(str(table), str(folder / "driven"), BatchOptions(require_consent=True))
    (bad,) = job.run(Status(), ThisProcess())
    assert "records no consent" in bad.reason and not (folder / "driven" / "videos").exists()
