"""Which files each dimension of VBench reads, and whether they are here.

The package downloads what it does not find, in the middle of a run and without a check. So a dimension is only started
when every file of it lies in the weights folder with the digest that is expected; otherwise it is unavailable, by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import sha256_of

BERT = "huggingface/hub/models--bert-base-uncased"  # tokenizer, as huggingface_hub keeps it
CLIP_B, CLIP_L = "clip_model/ViT-B-32.pt", "clip_model/ViT-L-14.pt"
GRIT = ("grit_model/grit_b_densecap_objectdet.pth", BERT)
RAFT = "raft_model/models/raft-things.pth"
VICLIP = ("ViCLIP/ViClip-InternVid-10M-FLT.pth", "ViCLIP/bpe_simple_vocab_16e6.txt.gz")

FILES: Mapping[str, tuple[str, ...]] = {
    "subject_consistency": (
        "dino_model/dino_vitbase16_pretrain.pth",
        "dino_model/facebookresearch_dino_main/hubconf.py",
    ),
    "background_consistency": (CLIP_B,),
    "temporal_flickering": (),
    "motion_smoothness": ("amt_model/amt-s.pth",),
    "dynamic_degree": (RAFT,),
    "aesthetic_quality": (CLIP_L, "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"),
    "imaging_quality": ("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",),
    "object_class": GRIT,
    "multiple_objects": GRIT,
    "color": GRIT,
    "spatial_relationship": GRIT,
    "human_action": ("umt_model/l16_ptk710_ftk710_ftk400_f16_res224.pth",),
    "scene": ("caption_model/tag2text_swin_14m.pth", BERT),
    "appearance_style": (CLIP_B,),
    "temporal_style": VICLIP,
    "overall_consistency": VICLIP,
}
STANDARD: Mapping[str, tuple[str, ...]] = {
    "temporal_flickering": (RAFT,)  # the filter that leaves still videos
}  # what the standard run reads beside them
KNOWN = {  # OpenAI publishes its digests in the addresses
    CLIP_B: "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    CLIP_L: "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
}


@dataclass(frozen=True)
class Weights:
    """The files of one dimension: their digests, and what keeps it from being started."""

    digests: Mapping[str, str]
    problems: tuple[str, ...]


def check_weights(
    dimension: str, folder: Path, expected: Mapping[str, str] | None = None, *, standard: bool = False
) -> Weights:
    """Digest the files of a dimension, in the standard run where `standard`.

    `expected`: sha256 by file, beside those that are published.
    """
    wanted = {**KNOWN, **(expected or {})}
    digests: dict[str, str] = {}
    problems = []
    for name in (*FILES[dimension], *(STANDARD.get(dimension, ()) if standard else ())):
        path = folder / name
        if not path.exists():
            problems.append(f"{path} is missing")
            continue
        digests[name] = sha256_of(path)
        if name in wanted and digests[name] != wanted[name]:
            problems.append(f"{path} has sha256 {digests[name][:12]}, not {wanted[name][:12]}")
    return Weights(digests, tuple(problems))
