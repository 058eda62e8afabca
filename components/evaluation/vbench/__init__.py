"""VBench: its dimensions, its prompts, and the package itself in an environment of its own."""

from components.evaluation.vbench.scores import DIMENSIONS, aggregate, group_score, total_score

__all__ = ["DIMENSIONS", "aggregate", "group_score", "total_score"]
