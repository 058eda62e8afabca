"""The Dockerfiles, as far as they can be judged without building them."""

import re
import subprocess
import tomllib
from importlib.metadata import entry_points

import pytest

from tests.infra.dockerfiles import DOCKER, IMAGES, ROOT, instructions, parse, sources
from tests.infra.rendered import NAMESPACE, containers, environment, pods, terraform

USER = 10001
OURS = ("cpu", "gpu")


def pins(text: str) -> dict[str, str]:
    """name==version of a requirements file or a command line, without extras."""
    return {
        name.lower(): version for name, version in re.findall(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", text)
    }


def test_a_line_that_is_no_instruction_is_refused():
    assert instructions("# comment\nRUN a \\\n    && b\nUSER 1\n") == [("RUN", "a && b"), ("USER", "1")]
    with pytest.raises(ValueError, match="no instruction: COPPY"):
        instructions("COPPY a b")


@pytest.mark.parametrize("image", IMAGES)
def test_images_are_built_in_one_stage_and_run_in_another(image):
    dockerfile = parse(image)
    assert [stage.name for stage in dockerfile.stages] == ["build", "run"]
    assert all(
        words.startswith("--from=build /") for words in dockerfile.last.of("COPY") if "--from" in words
    )
    installed = " ".join(dockerfile.last.of("RUN"))
    assert not re.search(r"build-essential|gcc|ninja|devel|pip install", installed)
    assert "rm -rf" in installed
    assert "/var/lib/apt/lists/*" in installed


@pytest.mark.parametrize("image", IMAGES)
def test_bases_are_arguments_pinned_by_tag(image):
    """So that a digest can be given at build time without a change of the file."""
    dockerfile = parse(image)
    for stage in dockerfile.stages:
        name = re.fullmatch(r"\$\{(\w+)\}", stage.base)[1]
        _, _, tag = dockerfile.arguments[name].partition(":")
        assert re.match(r"\d+\.\d+\.\d+-", tag), dockerfile.arguments


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_exists_and_reaches_the_builder(image):
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    assert "*" in ignore  # nothing reaches it that is not named
    copied = [source for stage in parse(image).stages for source in sources(stage)]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in allowed), source


def test_the_builder_sees_nothing_that_no_image_copies():
    copied = {source for image in IMAGES for stage in parse(image).stages for source in sources(stage)}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_as_the_user_of_the_manifests_and_stop_on_a_signal(image):
    last = parse(image).last
    assert last.of("USER") == [f"{USER}:{USER}"]
    assert last.steps.index(("USER", f"{USER}:{USER}")) > max(
        number for number, (name, _) in enumerate(last.steps) if name == "RUN"
    )
    assert f"--uid {USER} " in " ".join(last.of("RUN"))
    assert last.of("ENTRYPOINT") == ['["tini", "--"]']
    assert " tini " in " ".join(last.of("RUN"))
    assert len(last.of("HEALTHCHECK")) == 1


def test_pods_run_as_the_images_user():
    users = {
        template["spec"]["securityContext"]["runAsUser"]
        for _, space, template in pods(environment("prod"))
        if space == NAMESPACE
    }
    assert users == {USER}


@pytest.mark.parametrize("image", OURS)
def test_versions_are_those_of_constraints(image):
    constraints = pins((ROOT / "constraints.txt").read_text())
    steps = [words for stage in parse(image).stages for words in stage.of("RUN")]
    for words in steps:
        for command in re.findall(r"uv pip install.*?(?=&&|$)", words):
            assert "-c constraints.txt" in command or "--no-deps" in command, command
        assert not {name for name in pins(words) if name in constraints}, "pinned twice"


@pytest.mark.parametrize("image", OURS)
def test_extras_are_those_of_the_project(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = " ".join(words for stage in parse(image).stages for words in stage.of("RUN"))
    extras = re.findall(r"--extra (\w+)", text)
    assert set(extras) == set(project["optional-dependencies"]) - {"bench", "dev"}


def test_vbench_has_the_torch_of_the_project_and_the_old_packages_it_needs():
    wanted = pins((DOCKER / "vbench.requirements.txt").read_text())
    assert wanted["torch"] == pins((ROOT / "constraints.txt").read_text())["torch"]
    assert (wanted["vbench"], wanted["transformers"], wanted["tokenizers"]) == ("0.1.5", "4.33.2", "0.13.3")


@pytest.mark.parametrize("image", IMAGES)
def test_no_secret_is_baked_in(image):
    for stage in parse(image).stages:
        for words in [*stage.of("ENV"), *stage.of("ARG")]:
            assert not re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", words), words


def test_targets_are_the_repositories_that_terraform_makes():
    bake = (DOCKER / "docker-bake.hcl").read_text()
    targets = dict(re.findall(r'target "(\w+)" \{[^}]*?dockerfile = "([^"]+)"', bake))
    assert targets == {image: f"infra/docker/{image}.Dockerfile" for image in IMAGES}
    assert set(re.findall(r'"\$\{REGISTRY\}/(\w+):\$\{TAG\}"', bake)) == set(IMAGES)
    repositories = re.search(r"images\s+= toset\(\[([^\]]+)\]\)", terraform())[1]
    assert set(re.findall(r"\w+", repositories)) == set(IMAGES)
    readme = (DOCKER / "README.md").read_text()
    assert all(f"`{image}`" in readme for image in IMAGES)


def test_a_login_shell_finds_the_programs_of_the_image():
    """Debian's /etc/profile sets PATH anew before it reads profile.d."""
    path = subprocess.run(
        ["/bin/sh", "-c", f"PATH=/usr/bin:/bin; . {DOCKER / 'login.sh'}; printf %s $PATH"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert path == "/opt/venv/bin:/usr/bin:/bin"


def test_commands_of_the_manifests_are_programs_of_installed_packages():
    scripts = {script.name for script in entry_points(group="console_scripts")} | {"/bin/sh", "sleep"}
    for name, space, template in pods(environment("prod")):
        if space == NAMESPACE:
            for container in containers(template):
                command = container.get("command")
                assert command is None or command[0] in scripts, name
