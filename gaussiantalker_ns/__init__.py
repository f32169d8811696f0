"""GaussianTalker as a Nerfstudio method: audio-driven talking heads, on a GPU or a plain CPU.

Importing this package loads neither torch nor Nerfstudio; the parts are reached by their modules,
and the run-time object by `from gaussiantalker_ns import Talker`, which loads what it needs.

Axis vocabulary of every shape annotation: `b` frames in a batch, `n` Gaussians, `t` frames seen by
the temporal attention, `w` audio window, `a` audio feature, `f` plane feature, `d` model width, `k`
condition tokens, `s` spherical harmonics bases, `h` and `wd` image height and width, `m` any other
count.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaussiantalker_ns.inference.talker import Talker as Talker

try:
    __version__ = version("gaussiantalker-ns")
except PackageNotFoundError as error:
    raise ImportError(
        "The distribution 'gaussiantalker-ns' is not installed, so its entry points and version are"
        " unknown; run `pip install -e .` in the checkout."
    ) from error


def __getattr__(name: str) -> Any:
    """Load the run-time object when somebody asks for it."""
    if name == "Talker":
        from gaussiantalker_ns.inference.talker import Talker

        return Talker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
