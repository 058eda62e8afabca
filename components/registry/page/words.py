"""Numbers and names of the evaluation as the page says them."""

METRIC_TITLES = {
    "toy_fvd": "Toy FVD",
    "toy_fvd_untrained": "Toy FVD, untrained model",
    "toy_kvd": "Toy KVD",
    "toy_clipsim": "Toy CLIPSIM",
    "toy_is": "Toy Inception Score",
    "inception_score": "Inception Score (C3D, UCF-101)",
    "fid": "FID of middle frames",
    "clipsim": "CLIPSIM",
    "reconstruction_lpips": "Reconstruction LPIPS",
    "colour_accuracy": "Colour accuracy",
    "shape_accuracy": "Shape accuracy",
    "motion_accuracy": "Motion accuracy",
    "colour_accuracy_held_out": "Colour accuracy, unseen combinations",
    "shape_accuracy_held_out": "Shape accuracy, unseen combinations",
    "motion_accuracy_held_out": "Motion accuracy, unseen combinations",
    "toy_fvd_floor": "Toy FVD between halves of the real clips",
    "motion_energy": "Motion energy",
    "motion_energy_reference": "Motion energy of the real clips",
    "temporal_flickering": "Temporal flickering",
    "validation_loss": "Validation loss",
    "reconstruction_psnr": "Reconstruction PSNR",
    "reconstruction_psnr_pooled": "Reconstruction PSNR, pooled",
    "reconstruction_ssim": "Reconstruction SSIM",
}
HEADLINES = ("toy_fvd", "colour_accuracy", "motion_accuracy", "reconstruction_psnr")
DIGEST_DIGITS = 12


def title_of(metric: str) -> str:
    return METRIC_TITLES.get(metric) or metric.replace("_", " ").capitalize()


def number(value: float | None, metric: str = "", unit: str = "") -> str:
    """Accuracies in per cent, the rest to four digits; a dash for what could not be computed."""
    if value is None:
        return "–"
    if "_accuracy" in metric:
        return f"{value:.1%}".replace("%", " %")
    size = abs(value)
    decimals = 4 if size < 0.1 else 3 if size < 10 else 2 if size < 100 else 1
    return f"{value:,.{decimals}f}{f' {unit}' if unit else ''}"
