"""Objectives, times, masks, guidance and samplers."""

from models.diffusion.conditions import IMAGE_FPS, Conditions, Denoiser, Progress, predict
from models.diffusion.frame_masks import FrameMasks
from models.diffusion.guidance import Guided, drop_captions
from models.diffusion.rectified_flow import Draw, RectifiedFlow
from models.diffusion.samplers import Reference, sample_euler
from models.diffusion.times import MAX_TIME, Times, shift_times

__all__ = [
    "IMAGE_FPS",
    "MAX_TIME",
    "Conditions",
    "Denoiser",
    "Draw",
    "FrameMasks",
    "Guided",
    "Progress",
    "RectifiedFlow",
    "Reference",
    "Times",
    "drop_captions",
    "predict",
    "sample_euler",
    "shift_times",
]
