"""Eye closure from tables as spreadsheets save them, and from landmarks."""

import codecs

import numpy as np
import pytest

from gaussiantalker_ns.dataparsers.blinks import blink_of_landmarks, read_au45, read_blink
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout

HEADER = " frame, confidence, AU45_r, AU45_c"
VALUES = [0.0, 0.52, 1.25, 2.5]


def rows(separator=", ", point="."):
    lines = [HEADER.replace(", ", separator)]
    for frame, value in enumerate(VALUES):
        cells = (str(frame + 1), "0.98", f"{value:.2f}", "1")
        lines.append(separator.join(cell.replace(".", point) for cell in cells))
    return lines


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(rows()).encode(),
        "\r\n".join([*rows(), ""]).encode("utf-8-sig"),
        "\n".join(rows(";", ",")).encode(),
        "\n".join(["sep=;", *rows(";", ",")]).encode(),
        "\n".join(rows("\t", ",")).encode("utf-16"),
        codecs.BOM_UTF16_BE + "\r\n".join(rows()).encode("utf-16-be"),
        "\n".join(rows()).encode("utf-16-le"),
        "\r".join(rows()).encode(),
        "\n".join(line.replace("0.52", '"0,52"') for line in rows(",")).encode(),
    ],
)
def test_tables_of_spreadsheets(tmp_path, data):
    path = tmp_path / "au.csv"
    path.write_bytes(data)
    np.testing.assert_allclose(read_au45(path), VALUES)


def test_decimal_commas_between_commas_are_refused(tmp_path):
    """Read cell by cell, 0,98 would shift the blink into another column."""
    path = tmp_path / "au.csv"
    path.write_text("\n".join(rows(",", ",")))
    with pytest.raises(ValueError, match=r"au\.csv has 6 values in line 2 for 4 columns.*semicol"):
        read_au45(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"frame,AU45_r\n1,0.1\n2,x\n", r"au\.csv has 'x' for AU45_r in line 3, no number"),
        (b"sep=;\nframe;AU45_r\n1;1.234,5\n", r"'1\.234,5' for AU45_r in line 3"),
        (b"frame,AU45_r\n1\n", r"'' for AU45_r in line 2"),
        (b"frame,AU45_r\n1,\xe9\n", r"au\.csv is no text in UTF-8 or UTF-16 \(line 2"),
        (b"", r"expected one named AU45_r"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, data, message):
    path = tmp_path / "au.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_au45(path)


@pytest.mark.parametrize(("num_frames", "missing"), [(200, 2), (1000, 10), (8000, 12)])
def test_a_table_may_lack_some_rows_at_its_end(tmp_path, num_frames, missing):
    layout = DatasetLayout(tmp_path)
    values = np.linspace(0, 2, num_frames)
    lines = ["AU45_r", *(f"{value:f}" for value in values)]
    layout.action_units.write_text("\n".join(lines[:-missing]))
    closure = read_blink(layout, num_frames, None)
    assert len(closure) == num_frames
    np.testing.assert_allclose(closure[-missing:], values[-missing - 1] / 2, atol=1e-5)
    layout.action_units.write_text("\n".join(lines[: -missing - 1]))
    message = f"holds {num_frames - missing - 1} rows for {num_frames} frames.*OpenFace.*delete it"
    with pytest.raises(ValueError, match=message):
        read_blink(layout, num_frames, None)


def eyes(opening):
    """68 points whose eyes are 10 px wide and `opening` px high; the rest is zero."""
    points = np.zeros((68, 2))
    for first, left in ((36, 0.0), (42, 20.0)):
        x = np.array([0, 3, 7, 10, 7, 3]) + left
        y = np.array([0, -1, -1, 0, 1, 1]) * opening / 2
        points[first : first + 6] = np.stack([x, y], axis=1)
    return points


def test_blinks_from_landmarks(tmp_path):
    """Open eyes have the ratio 0.3, closed ones 0.08; a frame without landmarks lies between."""
    layout = DatasetLayout(tmp_path)
    layout.frames_dir.mkdir()
    for frame, opening in enumerate([3.0, 3.0, 0.8, 1.9, None, 3.0, 3.0, 3.0, 3.0, 3.0]):
        if opening is not None:
            np.savetxt(layout.points68(frame), eyes(opening))
    closure = read_blink(layout, 10, None)
    np.testing.assert_allclose(closure[:6], [0, 0, 1, 0.5, 0.25, 0], atol=1e-6)


def test_without_any_source_the_eyes_count_as_open(tmp_path, capsys):
    layout = DatasetLayout(tmp_path)
    layout.frames_dir.mkdir()
    np.savetxt(layout.points68(0), eyes(3.0))
    assert blink_of_landmarks(layout, 10) is None
    assert not read_blink(layout, 10, None).any()
    assert "trained without blinks" in " ".join(capsys.readouterr().out.split())


def test_eyes_without_width_are_no_landmarks(tmp_path):
    layout = DatasetLayout(tmp_path)
    layout.frames_dir.mkdir()
    np.savetxt(layout.points68(0), np.zeros((68, 2)))
    assert blink_of_landmarks(layout, 1) is None
