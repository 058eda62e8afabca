"""The published metrics of generated video, computed with their authors' networks, whose weights are given by path."""
