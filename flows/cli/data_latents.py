"""`reelforge data verify`: are the stored latents what their manifests say?"""

from pathlib import Path

import typer
from rich.console import Console

from components.errors import UserError

ROOT = Path()
console = Console()


def register(app: typer.Typer) -> None:
    """Add this command to `reelforge data`."""
    app.command("verify")(verify)


def verify() -> None:
    """Read every shard of latents and captions, and compare its sha256 with the manifest.

    Training looks at names and sizes only, since reading terabytes takes hours.

    Example: reelforge data verify
    """
    from components.data.latents import LatentManifest, LatentStore
    from components.stages import LATENTS

    root = ROOT.resolve()
    manifests = sorted((root / LATENTS).glob("*.json"))
    if not manifests:
        raise UserError(f"there are no latents in {root / LATENTS} yet: `reelforge run` makes them")
    damaged = []
    for manifest in manifests:
        found = LatentManifest.read(manifest)
        if found.samples.rows:
            damaged += LatentStore(manifest, root=root).verify()
        shards = found.shards
        size = sum(shard.size for shard in shards) / 1e9
        console.print(f"{manifest.stem}: {len(shards):,} shards, {size:.2f} GB read", highlight=False)
    if damaged:
        again = " && ".join(f"reelforge stage encode@{manifest.stem} --force" for manifest in manifests)
        raise UserError(
            f"{len(damaged)} shards are not what was written: {', '.join(damaged)}."
            f" Delete them and make them again: `{again}`"
        )
