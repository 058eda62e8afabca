"""What a plan is made for: so many GPUs of a kind, what they cost, and the share of their peak that is reached."""

import re
from dataclasses import dataclass

from components.errors import UserError

MIB = 1 << 20
# What its authors reached with STDiT on H800: 10.4 to 11.8 % (see `published`). A model of 14 B on H100 reached 17.8 %
# on 8 and 23.1 % on 64 with FSDP, and 32.9 % with a tuned layout (NVIDIA NeMo DFM, performance summary).
MFU = 0.11
# What the training of Open-Sora 2.0 cost: 107,500 dollars for 2,240 days of H200 (arXiv 2503.09642)
PRICE = 2.0


@dataclass(frozen=True)
class Device:
    """A GPU. `tflops`: its dense bf16 peak; `single`: that in float32; `memory`: bytes, as the driver reports them."""

    name: str
    tflops: float
    single: float
    memory: int


def _device(name: str, tflops: float, single: float, mebibytes: int) -> Device:
    return Device(name, tflops, single, mebibytes * MIB)


DEVICES = {
    device.name: device
    for device in (
        _device("B200", 2250, 80, 183_359),
        _device("H200", 989.4, 67, 143_771),
        _device("H100", 989.4, 67, 81_559),  # SXM
        _device("H800", 989.4, 67, 81_559),
        _device("H100-PCIE", 756, 51, 81_559),
        _device("A100", 312, 19.5, 81_920),
        _device("A100-40GB", 312, 19.5, 40_960),
        _device("A800", 312, 19.5, 81_920),
        _device("L40S", 362, 91.6, 46_068),
        _device("RTX4090", 165, 82.6, 24_564),
    )
}
DEFAULT = "H100"


@dataclass(frozen=True)
class Cluster:
    """GPUs that train together. `mfu`: model FLOPs over peak, as it is assumed; `price`: of one GPU for an hour."""

    count: int
    device: Device
    mfu: float = MFU
    price: float = PRICE

    @property
    def name(self) -> str:
        return f"{self.count}x{self.device.name}"

    def flops(self, *, bf16: bool = True) -> float:
        """FLOP/s that one GPU is assumed to do."""
        return (self.device.tflops if bf16 else self.device.single) * 1e12 * self.mfu


def parse_cluster(text: str, *, mfu: float = MFU, price: float = PRICE) -> Cluster:
    """`96xH100`, `8xA100-40GB` or `8` (of the default kind). Raises `UserError` for anything else."""
    match = re.fullmatch(r"\s*(\d+)\s*(?:[xX*]\s*([A-Za-z][\w-]*))?\s*", text)
    if not match or int(match[1]) < 1:
        raise UserError(f"--gpus {text!r}: give a number and a kind, as in 96xH100")
    name = (match[2] or DEFAULT).upper()
    if name not in DEVICES:
        raise UserError(f"--gpus {text!r}: unknown GPU {match[2]}; known: {', '.join(DEVICES)}")
    if not 0 < mfu <= 1:
        raise UserError(
            f"--mfu {mfu:g}: the share of the peak that is reached, above 0 and up to 1, as in 0.3"
        )
    if price < 0:
        raise UserError(f"--price {price:g}: the price of one GPU for an hour, 0 or more")
    return Cluster(int(match[1]), DEVICES[name], mfu, price)
