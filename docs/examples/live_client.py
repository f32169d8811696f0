"""Let a head speak a wav file, save what it shows: live_client.py SPEECH.wav OUT.mp4 [ADDRESS]."""

import asyncio
import json
import sys
import urllib.request
import wave

import websockets


async def main(speech: str, output: str, address: str = "http://127.0.0.1:8000") -> None:
    """Begin a session, send the sound, write the stream until all of it was spoken."""
    request = urllib.request.Request(f"{address}/sessions", b"{}", method="POST")
    with urllib.request.urlopen(request) as answer:
        session = f"{address.replace('http', 'ws', 1)}/sessions/{json.load(answer)['id']}"
    with wave.open(speech) as file:  # 16-bit mono
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    async with (
        websockets.connect(f"{session}/media", max_size=None) as media,
        websockets.connect(f"{session}/audio?rate={rate}") as audio,
    ):
        for start in range(0, len(samples), 65_536):
            await audio.send(samples[start : start + 65_536])
        await audio.send(json.dumps({"type": "flush"}))
        spoken = asyncio.create_task(audio.recv())
        with open(output, "wb") as film:
            while not spoken.done():
                message = await media.recv()
                film.write(message if isinstance(message, bytes) else b"")


asyncio.run(main(*sys.argv[1:]))
