"""Objectives, times, masks, guidance and samplers."""

from models.diffusion.augmentation import NoiseAugmentation
from models.diffusion.channels import InputChannels
from models.diffusion.conditions import IMAGE_FPS, Conditions, Denoiser, Progress, predict
from models.diffusion.frame_masks import PUBLISHED, FrameMasks, FramePrediction
from models.diffusion.guidance import GuidanceScale, Guided, PowerCosine, drop_captions
from models.diffusion.rectified_flow import Draw, RectifiedFlow
from models.diffusion.samplers import Reference, sample_euler
from models.diffusion.schedules import NoiseSchedule
from models.diffusion.times import MAX_TIME, Times, shift_times
from models.diffusion.v_prediction import VPrediction

__all__ = [
    "IMAGE_FPS",
    "MAX_TIME",
    "PUBLISHED",
    "Conditions",
    "Denoiser",
    "Draw",
    "FrameMasks",
    "FramePrediction",
    "GuidanceScale",
    "Guided",
    "InputChannels",
    "NoiseAugmentation",
    "NoiseSchedule",
    "PowerCosine",
    "Progress",
    "RectifiedFlow",
    "Reference",
    "Times",
    "VPrediction",
    "drop_captions",
    "predict",
    "sample_euler",
    "shift_times",
]
