"""Learning rate as a function of the optimizer step, with nothing to save or restore."""

import math

from components.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Rate of optimizer step `step`, counted from 0, of `steps`.

    Linear warm-up lr (step + 1) / (warmup + 1), as published for Open-Sora 1.2; then constant, or half a
    cosine that would reach zero at `steps`.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
