"""The table of `batch`: columns, separators, options, and what is wrong with rows."""

from pathlib import Path

import pytest

from gaussiantalker_ns.batch.options import (
    OPTION_KINDS,
    DriveOptions,
    PackingOptions,
    ProcessOptions,
    TrainOptions,
    value_of,
)
from gaussiantalker_ns.batch.table import BadRow, Row, read_rows
from gaussiantalker_ns.scripts import drive, pack, process


def rows(tmp_path: Path, text: str, encoding: str = "utf-8") -> list[Row | BadRow]:
    path = tmp_path / "jobs.csv"
    path.write_bytes(text.encode(encoding))
    return list(read_rows(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets(tmp_path: Path, separator: str, encoding: str):
    lines = [
        ("Video", "Audio", "name", "Process.Size", "drive.lip-gain", "consent"),
        ("me.mp4", "a b.wav", "J\u00fcrgen 1", "256", "1.5", "I agree"),
        ("", "", "", "", "", ""),
        ("me.mp4", "b.wav", "", "", "", ""),
    ]
    text = "\r\n".join(separator.join(cells) for cells in lines)
    first, second = rows(tmp_path, text, encoding)
    assert isinstance(first, Row) and isinstance(second, Row)
    assert (first.number, first.name, first.consent) == (2, "J\u00fcrgen 1", "I agree")
    assert first.process.size == 256 and first.drive.lip_gain == 1.5
    assert (second.number, second.name, second.consent) == (4, "me-b", None)
    assert second.process == ProcessOptions() and second.drive == DriveOptions()


def test_quoted_cells_hold_separators_and_lines(tmp_path: Path):
    (row,) = rows(tmp_path, 'talker,text\nme.talker,"Good, and\nnew."\n')
    assert isinstance(row, Row) and row.text == "Good, and\nnew." and row.name == "me-Good_and_new"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a header"),
        ("video,audio,colour\n", "has the column 'colour', which is not known"),
        ("video,audio,video\n", "has the column video twice"),
        ("video,name\n", "has neither a column audio nor text"),
        ("audio,name\n", "has neither a column video nor talker"),
    ],
)
def test_a_table_without_a_header_that_makes_sense(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, text)


def test_no_table(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="No table at"):
        list(read_rows(tmp_path / "jobs.csv"))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"video": "me.mp4"}, "neither of audio and text"),
        ({"audio": "a.wav"}, "neither of video and talker"),
        ({"video": "m", "talker": "t", "audio": "a"}, "both of video and talker"),
        ({"video": "m", "audio": "a", "text": "t"}, "both of audio and text"),
        ({"video": "m", "audio": "a", "voice": "en"}, "a voice without a text"),
        ({"video": "m", "audio": "a", "name": "../etc"}, "cannot be that of a file"),
        ({"video": "m", "audio": "a", "name": ".hidden"}, "cannot be that of a file"),
        ({"video": "m", "audio": "a", "drive.size": "big"}, "drive.size is 'big'; expected a whol"),
        ({"video": "m", "audio": "a", "drive.lip_gain": "nan"}, "expected a number"),
        ({"video": "m", "audio": "a", "train.preset": "huge"}, "expected one of cpu, paper, lite"),
        ({"video": "m", "audio": "a", "drive.silence_gate": "maybe"}, "expected one of true, yes"),
        ({"talker": "m", "audio": "a", "train.steps": "10"}, "names a talker, which is trained"),
    ],
)
def test_a_bad_row_does_not_stop_the_others(tmp_path: Path, cells: dict[str, str], message: str):
    columns = list({"video": "", "talker": "", "audio": "", "text": "", "name": "", **cells})
    good = {"video": "me.mp4", "audio": "b.wav", "name": "good"}
    lines = [columns, *([row.get(c, "") for c in columns] for row in (cells, good))]
    bad, fine = rows(tmp_path, "\n".join(",".join(line) for line in lines))
    assert isinstance(bad, BadRow) and message in bad.reason and bad.number == 2
    assert isinstance(fine, Row) and fine.name == "good"


def test_too_many_cells(tmp_path: Path):
    (bad,) = rows(tmp_path, "talker,text\nme.talker,Good, and new\n")
    assert isinstance(bad, BadRow) and "3 cells for 2 columns" in bad.reason


def test_values():
    assert value_of("drive.size", "256") == 256
    assert value_of("drive.end", "2.5") == 2.5
    assert value_of("drive.silence_gate", "No") is False
    assert value_of("pack.precision", "float16") == "float16"
    assert value_of("drive.background", "#20a040") == "#20a040"
    assert "process.av_offset" in OPTION_KINDS


def test_options_have_the_names_and_defaults_of_the_commands(tmp_path: Path):
    for options, command in (
        (ProcessOptions(), process.Config(tmp_path)),
        (PackingOptions(), pack.Config(tmp_path, tmp_path)),
        (DriveOptions(), drive.Config(tmp_path)),
    ):
        for name, value in vars(options).items():
            assert getattr(command, name) == value, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ProcessOptions(start=5.0, end=3.0), "expected 0 <= start < end"),
        (ProcessOptions(size=8), "expected at least 64"),
        (ProcessOptions(face="top"), "--face is 'top'"),
        (TrainOptions(steps=100), "train.canonical_steps is 800 and train.steps"),
        (PackingOptions(track_seconds=0.0), "--track-seconds is 0"),
        (DriveOptions(size=65), "expected an even number"),
        (DriveOptions(background="#12"), "six hexadecimal digits"),
        (DriveOptions(background="alpha"), "an mp4 cannot hold"),
        (DriveOptions(start=3.0, end=2.0), "expected 0 <= start < end"),
        (DriveOptions(lip_gain=9.0), "expected a factor from 0 to 3"),
    ],
)
def test_options_that_make_no_sense(options, message: str):
    with pytest.raises(ValueError, match=message):
        options.check()


def test_options_become_what_is_trained():
    config = TrainOptions(steps=30, canonical_steps=10, seed=7, num_points=400).config()
    assert config.max_num_iterations == 30 and config.machine.seed == 7
    assert config.pipeline.canonical_steps == 10  # pyright: ignore
    assert config.pipeline.datamanager.dataparser.num_points == 400
    assert TrainOptions(preset="lite").config().method_name == "gaussiantalker-lite"
