"""Samples per second of shuffled batches: the latent store against WebDataset tar, .npy files, and decoding.

    python benchmarks/loader.py [--latent-kib 64] [--samples 4000] [--rounds 5] [--folder DIR]

All readers give the same float32 batches of latents and text from the same content, in one process without workers,
each sample once in an epoch in shuffled order; files are in the page cache after a first epoch that is not counted.
WebDataset reads its shards in shuffled order through a buffer of 1,000 samples; the .npy reader opens two files per
sample. Decoding every time means the pixels of a window of 17 frames of 256x256 from H.264 at 640x360, without the
autoencoder that would follow. Readers take turns; a ratio is the median of those of the rounds.
"""

import argparse
import io
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
import webdataset

from components.data.buckets import Bucket
from components.data.clips import Clip
from components.data.config import BatchesConfig, FootageConfig
from components.data.footage import plan_files, write_video
from components.data.latent_shards import Members, sample_parts, write_latents, write_text
from components.data.latents import Family, LatentManifest, TextTable
from components.data.loader import LatentBatches
from components.data.samples import write_samples
from components.data.windows import WindowRequest, read_windows

BATCH = 16
CHANNELS, FRAMES = 4, 2
TOKENS, WIDTH = 32, 256  # 16 KiB of float16
SHARD_MB = 64
TAR_SAMPLES = 256  # per shard
BUFFER = 1000
DECODED_FILES = 4
Epoch = Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True)
class Content:
    """What every format holds: latents (N, C, T, H, W) and text (N, L, D), float16."""

    latents: np.ndarray
    text: np.ndarray

    @classmethod
    def of(cls, samples: int, latent_kib: int) -> "Content":
        side = round((latent_kib * 512 / CHANNELS / FRAMES) ** 0.5)
        generator = np.random.default_rng(0)
        shapes = (samples, CHANNELS, FRAMES, side, side), (samples, TOKENS, WIDTH)
        return cls(
            *(generator.standard_normal(shape, dtype=np.float32).astype(np.float16) for shape in shapes)
        )

    def __len__(self) -> int:
        return len(self.latents)


def write_store(content: Content, root: Path) -> Epoch:
    """As the encode stage writes it, read through `LatentBatches`."""
    count, store, folder = len(content), root / "store", "latents/videos"
    texts = tuple(
        write_text(store, f"{folder}/text-{n}.safetensors", part, np.ones(part.shape[:2], bool))
        for n, part in enumerate(parts_of(content.text))
    )
    records, start = [], 0
    for number, part in enumerate(parts_of(content.latents)):
        rows = range(start, start + len(part))
        start += len(part)
        members = Members(
            clip_ids=[f"{row:016x}" for row in rows],
            splits=["train"] * len(rows),
            windows=[0] * len(rows),
            variants=["plain"] * len(rows),
            captions=list(rows),
        )
        records.append(write_latents(store, f"{folder}/{number}.safetensors", part, members))
    side = content.latents.shape[-1] * 8
    shape = content.latents.shape[1:]
    shards = tuple(record.shard for record in records)
    family = Family(f"17x{side}x{side}", f"{side}px", "1:1", 17, side, side, shape, count, shards)
    samples = write_samples(store, folder, lambda: sample_parts({family.name: records}))
    manifest = root / "videos.json"
    LatentManifest({}, TextTable("t", WIDTH, TOKENS, texts), 24, (family,), {}, samples).write(manifest)
    buckets = {f"{side}px": {17: (1.0, BATCH)}}
    config = BatchesConfig(buckets=buckets, seed=1, small_bucket="repeat")
    started = time.perf_counter()
    batches = LatentBatches(manifest, root=root, config=config)
    print(f"store opened in {time.perf_counter() - started:.3f} s: {count} samples, {len(shards)} shards")

    def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        whole = count // BATCH
        for position in range(number * whole, (number + 1) * whole):
            batch = batches.batch(position)
            yield batch.latents, batch.text

    return epoch


def parts_of(values: np.ndarray) -> list[np.ndarray]:
    rows = max(1, SHARD_MB * (1 << 20) // values[0].nbytes)
    return [values[start : start + rows] for start in range(0, len(values), rows)]


def write_tars(content: Content, root: Path) -> Epoch:
    """WebDataset: shards of .npy pairs."""
    root.mkdir()
    with webdataset.ShardWriter(str(root / "%05d.tar"), maxcount=TAR_SAMPLES, verbose=0) as writer:
        for row in range(len(content)):
            pair = {"latent.npy": npy(content.latents[row]), "text.npy": npy(content.text[row])}
            writer.write({"__key__": f"{row:08d}", **pair})
    urls = sorted(str(path) for path in root.glob("*.tar"))

    def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = random.Random(number).sample(urls, len(urls))
        samples = webdataset.WebDataset(order, shardshuffle=False, seed=number).shuffle(BUFFER, seed=number)
        waiting = []
        for sample in samples:
            waiting.append(sample)
            if len(waiting) == BATCH:
                yield tuple(
                    torch.from_numpy(np.stack([np.load(io.BytesIO(each[name])) for each in waiting])).float()
                    for name in ("latent.npy", "text.npy")
                )
                waiting = []

    return epoch


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def write_files(content: Content, root: Path) -> Epoch:
    """Two .npy files per sample."""
    root.mkdir()
    for row in range(len(content)):
        np.save(root / f"{row}.latent.npy", content.latents[row])
        np.save(root / f"{row}.text.npy", content.text[row])

    def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = np.random.default_rng(number).permutation(len(content))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            yield tuple(
                torch.from_numpy(np.stack([np.load(root / f"{row}.{name}.npy") for row in rows])).float()
                for name in ("latent", "text")
            )

    return epoch


def decoder(root: Path, seconds: float) -> float:
    """Windows per second when each is decoded from its file."""
    config = FootageConfig(
        seed=77,
        files=DECODED_FILES,
        scenes_per_file=1,
        scene_seconds=(4.0, 5.0),
        fps=24,
        sizes=((360, 640),),
        static_files=0,
        text_files=0,
        truncated_files=0,
        validation_share=0,
        held_out_combinations=0,
    )
    root.mkdir()
    for plan in plan_files(config):
        write_video((root, plan))
    paths, bucket = sorted(root.glob("*.mp4")), Bucket("256", 17, "1:1", 256, 256)
    generator, count, started = np.random.default_rng(0), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        first = int(generator.integers(40)) / 24
        clip = Clip(
            "0", paths[count % len(paths)], first, first + 17 / 24, 24.0, 17, 640, 360, "train", "", ""
        )
        windows = read_windows(WindowRequest(clip, bucket, 24))
        torch.from_numpy(windows.frames).float().div_(127.5).sub_(1.0)
        count += 1
    return count / elapsed


def rate(epoch: Epoch, number: int) -> tuple[float, float]:
    """Samples per second of wall time and of processor time."""
    started, used, count = time.perf_counter(), time.process_time(), 0
    for latents, text in epoch(number):
        assert latents.dtype == text.dtype == torch.float32
        count += len(latents)
    return count / (time.perf_counter() - started), count / (time.process_time() - used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latent-kib", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decode-seconds", type=float, default=10)
    parser.add_argument(
        "--folder", type=Path, help="where the formats are written; a temporary one by default"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    content = Content.of(arguments.samples, arguments.latent_kib)
    print(f"{len(content)} samples of {content.latents[0].nbytes >> 10} + {content.text[0].nbytes >> 10} KiB")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        readers = {
            "latent store": write_store(content, folder / "ours"),
            "webdataset": write_tars(content, folder / "tars"),
            ".npy files": write_files(content, folder / "files"),
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for number in range(arguments.rounds + 1):
            for name, epoch in readers.items():
                rates[name].append(rate(epoch, number))
        decoded = decoder(folder / "videos", arguments.decode_seconds)
    rounds = {name: np.array(found[1:]) for name, found in rates.items()}
    print(f"{'':>13}  {'samples/s':>10}  {'per CPU s':>10}")
    for name, found in rates.items():
        every = ", ".join(f"{wall:,.0f}" for wall, _ in found[1:])
        print(
            f"{name:>13}: {np.median(rounds[name][:, 0]):>10,.0f}  {np.median(rounds[name][:, 1]):>10,.0f}  ({every})"
        )
    print(f"{'decoding':>13}: {decoded:>10,.1f}")
    ours = rounds.pop("latent store")
    for name, other in rounds.items():
        wall, used = np.median(ours / other, axis=0)
        print(f"ratio to {name}: {wall:.2f} by the clock, {used:.2f} by processor time (aim 1)")
    print(f"ratio to decoding: {np.median(ours[:, 0]) / decoded:,.0f} (aim 20)")


if __name__ == "__main__":
    main()
