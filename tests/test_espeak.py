"""Text to speech by espeak-ng, where it is installed, and what is said where it is not."""

import importlib.util
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from gaussiantalker_ns.audio import espeak
from gaussiantalker_ns.audio.espeak import Voice, speak_to_file, synthesise
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.scripts import cli

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeakng-loader"
)

FAKE_PROGRAM = """#!{python}
import sys, wave
arguments = sys.argv[1:]
if arguments[arguments.index("-v") + 1] == "nobody":
    sys.exit("no such voice")
assert sys.stdin.read() == "Good morning."
with wave.open(arguments[arguments.index("-w") + 1], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(22050)
    file.writeframes(bytes(22050))
"""


@pytest.fixture
def no_loader(monkeypatch):
    monkeypatch.setattr(espeak, "LOADER", "no_such_package")
    monkeypatch.setattr(espeak.shutil, "which", lambda name: None)


@needs_espeak
def test_a_text_becomes_sound(tmp_path):
    speak_to_file("Good morning, everybody. 5 < 6 & more.", tmp_path / "a.wav")
    samples = read_audio(tmp_path / "a.wav")
    assert 1.0 < len(samples) / 16_000 < 8.0 and np.abs(samples).max() > 0.05
    speak_to_file("Good morning, everybody. 5 < 6 & more.", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    with pytest.raises(ValueError, match="not an espeak-ng voice"):
        speak_to_file("Good morning.", tmp_path / "c.wav", Voice("nobody"))


@needs_espeak
def test_phonemes_have_times():
    spoken = synthesise("Pa pa.", Voice())
    assert [name.strip("',") for name, _ in spoken.phonemes].count("p") == 2
    times = [time for _, time in spoken.phonemes]
    assert times == sorted(times) and times[-1] <= len(spoken.samples) / spoken.sample_rate_hz


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
def test_the_program_serves_as_well(no_loader, tmp_path, monkeypatch):
    program = tmp_path / "espeak-ng"
    program.write_text(FAKE_PROGRAM.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(espeak.shutil, "which", lambda name: str(program))
    speak_to_file("Good morning.", tmp_path / "a.wav")
    assert len(read_audio(tmp_path / "a.wav")) == 8000
    with pytest.raises(ValueError, match=r"voice `nobody` \(no such voice\).*--voice"):
        speak_to_file("Good morning.", tmp_path / "b.wav", Voice("nobody"))


def test_without_a_voice_it_says_what_to_install(no_loader, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\[sample\].*apt install espeak-ng.*--audio"):
        speak_to_file("Good morning.", tmp_path / "a.wav")
    for text in ("", " ... "):
        with pytest.raises(ValueError, match="has no words"):
            speak_to_file(text, tmp_path / "a.wav")


def test_what_is_said_is_named_once(tmp_path, capsys):
    output = str(tmp_path / "talk.mp4")
    assert cli.run_command("drive", ["--output", output]) == 1
    assert "neither --audio nor --text was given" in capsys.readouterr().err
    arguments = ["--output", output, "--text", "Good morning.", "--audio", str(Path(__file__))]
    assert cli.run_command("drive", arguments) == 1
    assert "--text came with --audio" in capsys.readouterr().err
