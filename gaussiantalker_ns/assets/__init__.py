"""Model files that travel with the package; their sources and licences are in NOTICE."""

from pathlib import Path

ASSETS_DIR = Path(__file__).parent

ASSET_SHA256 = {
    "canonical_face_mesh.npz": "e8e94bf3018bb155e806627e61f3014da818bb060532f2b04fe2b8dffcaa0fcd",  # noqa: E501
    "face_landmarker.task": "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    "selfie_segmentation.tflite": "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",  # noqa: E501
    "whisper_tiny_en_2blocks.npz": "5c6b2f591d200f348f4f4bc26674be2ee840614f87b9ef371f049249022f2bc8",  # noqa: E501
}
"""The model files and their checksums; `scripts/dev/make_assets.py` builds them."""


def asset_path(name: str) -> Path:
    """Return the path of the asset called `name`, after checking that it is there.

    Args:
        name: File name inside the assets folder; sub-folders are allowed ("sample/video.mp4").

    Raises:
        FileNotFoundError: If the installed package lacks the file.
    """
    path = ASSETS_DIR / name
    if not path.is_file() or path.stat().st_size == 0:
        known = ", ".join(sorted(ASSET_SHA256))
        raise FileNotFoundError(
            f"The asset {name!r} is missing or empty at {path}; expected one of the files that the"
            f" package ships ({known}, ...). Re-install gaussiantalker-ns, or rebuild the model"
            " files with `python -m gaussiantalker_ns.scripts.dev.make_assets`."
        )
    return path
