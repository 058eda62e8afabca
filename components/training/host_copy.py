"""A copy of tensors in host memory, in buffers that are made once: training goes on while the copy is written."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor


class HostCopy:
    """Buffers by key, page-locked where tensors come from a GPU, so that the copy runs at the speed of the bus."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, live: Mapping[str, Tensor], *, flat: Collection[str]) -> dict[str, Tensor]:
        """Copies of all tensors, those in `flat` with one dimension; overwritten by the next call."""
        taken = {}
        for key, value in live.items():
            source = value.detach().reshape(-1) if key in flat else value.detach()
            buffer = self._buffers.get(key)
            if buffer is None or buffer.shape != source.shape or buffer.dtype != source.dtype:
                buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
                self._buffers[key] = buffer
            buffer.copy_(source, non_blocking=True)
            taken[key] = buffer
        if any(value.is_cuda for value in live.values()):
            torch.cuda.synchronize()
        return taken
