"""What a super-resolution stage starts from: the latents of the same clip and window at half the size."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from components.data.latents import Family, LatentStore
from components.data.loader import LatentBatch, LatentBatches, requested
from components.errors import ContractError


class LowResolution:
    """Pairs the rows of every bucket of a stage with those of the same clips at a lower resolution."""

    def __init__(self, batches: LatentBatches, resolution: str) -> None:
        """Raises `ContractError` where a bucket has no counterpart of half its size, or a clip is not in it.

        Crops of videos that are encoded on the fly have no counterpart: they are refused too.
        """
        if not isinstance(batches.store, LatentStore):
            raise ContractError("super-resolution pairs stored latents; set `batches.source` to latents")
        self.store = batches.store
        families = [family for family, _ in requested(self.store.manifest, batches.config)]
        self._pairs = {family.key: self._pair(family, resolution) for family in families}

    def read(self, batch: LatentBatch) -> Tensor:
        """Clean latents (B, C, T, h, w) of the samples of a batch."""
        family, places = self._pairs[batch.bucket]
        latents: Tensor = self.store.read(family, places[list(batch.rows)].tolist())[0]
        return latents

    def _pair(self, family: Family, resolution: str) -> tuple[Family, NDArray[np.int64]]:
        channels, frames, height, width = family.latent_shape
        wanted = (channels, frames, height // 2, width // 2)
        for other in self.store.manifest.families:
            if other.resolution == resolution and other.latent_shape == wanted:
                return other, places_of(self.store, family, other)
        have = ", ".join(f"{f.resolution} {f.key}" for f in self.store.manifest.families)
        raise ContractError(
            f"bucket {family.name} has no latents of half its size at {resolution} ({have}); add that resolution to the"
            " encode section of these latents, with the same frames and aspects"
        )


def places_of(store: LatentStore, family: Family, other: Family) -> NDArray[np.int64]:
    """For every row of `family` the row of the same sample in `other`. Raises `ContractError` where one is missing."""
    places = {name: row for row, name in enumerate(store.rows(other).samples().tolist())}
    found = [places.get(name, -1) for name in store.rows(family).samples().tolist()]
    if missing := found.count(-1):
        raise ContractError(
            f"{missing} of {len(found)} samples of bucket {family.name} are not in {other.name};"
            " encode both from the same clips and windows"
        )
    return np.array(found, dtype=np.int64)
