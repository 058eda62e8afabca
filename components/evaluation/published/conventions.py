"""The conventions under which FVD has been published. Their numbers have nothing to do with one another.

Each fixes the network, how clips are prepared for it, and how the covariance is divided; with the digest of the weights
and the counts it is the identity of a score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Network = Literal["torchscript", "i3d", "videomae"]
Resize = Literal["network", "stretch", "cover"]


@dataclass(frozen=True)
class Convention:
    """How one kind of FVD is measured.

    `resize`: by the network itself, to 224 x 224 whatever the aspect, or the shorter side to 224 and the middle of it.
    `values`: what pixels 0 and 255 become. `samples`: the least that a comparison should have.
    """

    network: Network
    weights: str  # file name under which they were published
    resize: Resize
    values: tuple[float, float]
    frames: int  # of a clip
    ddof: int
    samples: int


STYLEGAN_I3D, KINETICS_I3D = "i3d_torchscript.pt", "i3d_pretrained_400.pt"
SOMETHING_MAE = "vit_g_hybrid_pt_1200e_ssv2_ft.pth"
FVD_CONVENTIONS: Mapping[str, Convention] = {
    "stylegan-v": Convention("torchscript", STYLEGAN_I3D, "network", (0, 255), 16, ddof=0, samples=2048),
    "common-metrics": Convention("torchscript", STYLEGAN_I3D, "cover", (-1, 1), 16, ddof=1, samples=2048),
    "tensorflow": Convention("i3d", KINETICS_I3D, "stretch", (-1, 1), 16, ddof=1, samples=2048),
    "cd-fvd-i3d": Convention("i3d", KINETICS_I3D, "stretch", (-1, 1), 16, ddof=0, samples=2048),
    "cd-fvd-videomae": Convention("videomae", SOMETHING_MAE, "stretch", (0, 1), 16, ddof=0, samples=2048),
}
