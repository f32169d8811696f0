"""How far condition tokens reach: eyes and head pose need not be heard at the mouth.

Differs from GaussianTalker, whose attention finds out by itself what moves what (Sec. 4.3.1, Fig.
4). Half a minute of video is too little for that: expression and pose tell its frames apart, so the
mouth is learned by them, and stands still or moves wrongly with new speech.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def token_reach(
    means: Float[Tensor, "n 3"],
    mouth_border: Float[Tensor, "2"],
    names: tuple[str, ...],
    above_mouth: tuple[str, ...],
) -> Float[Tensor, "k n"] | None:
    """How well each token is heard at each Gaussian, in [0, 1]; None for 1 anywhere.

    Args:
        means: Canonical positions in head space (y up), scene units.
        mouth_border: Heights at and below which a token is not heard, and from which on it is; a
            smooth step lies between them.
        names: The tokens, in the order of the token axis.
        above_mouth: Those that mouth and jaw do not hear.
    """
    if not set(names) & set(above_mouth):
        return None
    low, high = mouth_border
    share = ((means.detach()[:, 1] - low) / (high - low)).clamp(0, 1)
    # Nothing may remain at 0: attention learns to blow up a thousandth.
    above, anywhere = share.square() * (3 - 2 * share), torch.ones_like(share)
    return torch.stack([above if name in above_mouth else anywhere for name in names])
