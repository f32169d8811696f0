"""The terms of the training loss (Sec. 4.4.2), for channels-last images in [0, 1]."""

from gaussiantalker_ns.losses.perceptual import PerceptualLoss as PerceptualLoss
from gaussiantalker_ns.losses.perceptual import PerceptualLossConfig as PerceptualLossConfig
from gaussiantalker_ns.losses.photometric import alpha_mask as alpha_mask
from gaussiantalker_ns.losses.photometric import delta_penalty as delta_penalty
from gaussiantalker_ns.losses.photometric import dssim as dssim
from gaussiantalker_ns.losses.photometric import l1 as l1
from gaussiantalker_ns.losses.photometric import lip_l1 as lip_l1
from gaussiantalker_ns.losses.photometric import ssim as ssim
