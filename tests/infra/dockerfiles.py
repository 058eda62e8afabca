"""Reads Dockerfiles: instructions by stage, as the reference of the format defines them."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra/docker"
IMAGES = ("cpu", "gpu", "vbench")
# https://docs.docker.com/reference/dockerfile/
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)  # (instruction, its words)

    def of(self, instruction: str) -> list[str]:
        return [words for found, words in self.steps if found == instruction]


@dataclass(frozen=True)
class Dockerfile:
    arguments: dict[str, str]  # those before the first stage
    stages: list[Stage]

    @property
    def last(self) -> Stage:
        return self.stages[-1]


def instructions(text: str) -> list[tuple[str, str]]:
    """Comments out, continued lines joined. Raises `ValueError` for a line that is no instruction."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        name, _, words = line.partition(" ")
        if name not in INSTRUCTIONS:
            raise ValueError(f"no instruction: {line}")
        if words.startswith("["):
            json.loads(words)  # exec form
        found.append((name, words.strip()))
    return found


def parse(image: str) -> Dockerfile:
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for name, words in instructions((DOCKER / f"{image}.Dockerfile").read_text()):
        if name == "FROM":
            base, _, stage = words.partition(" AS ")
            stages.append(Stage(base, stage))
        elif stages:
            stages[-1].steps.append((name, words))
        else:
            key, _, value = words.partition("=")
            arguments[key] = value
    return Dockerfile(arguments, stages)


def sources(stage: Stage) -> list[str]:
    """What a stage copies out of the build's context."""
    copies = [words.split() for words in stage.of("COPY") if not words.startswith("--from=")]
    return [source for words in copies for source in words[:-1]]
