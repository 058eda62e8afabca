"""The rules of the house that a linter does not know."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from components.params import Params
from components.stages import STAGES, stages_of, system_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "components", "flows")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# what every stage runs through: a change here does not change a stage's result
HOUSE = {
    "components/__init__.py",
    "components/__main__.py",
    "components/artifacts.py",
    "components/block_cache.py",
    "components/config.py",
    "components/data/balance.py",
    "components/data/cluster.py",
    "components/data/code_version.py",
    "components/data/item_places.py",
    "components/data/items.py",
    "components/data/outcomes.py",
    "components/data/pool.py",
    "components/data/reasons.py",
    "components/data/store.py",
    "components/data/tables.py",
    "components/data/workers.py",
    "components/errors.py",
    "components/imports.py",
    "components/object_store.py",
    "components/params.py",
    "components/previews.py",
    "components/process_tree.py",
    "components/planning/devices.py",
    "components/planning/flops.py",
    "components/profile.py",
    "components/progress.py",
    "components/provenance.py",
    "components/report.py",
    "components/runtime.py",
    "components/stage.py",
    "components/stages.py",
    "components/storage.py",
    "components/systems.py",
    "components/tracking.py",
    "components/tracking_writer.py",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_readable(path: Path):
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules (and of names in them, which may be modules) that a file imports."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers_of(package: str) -> set[str]:
    return {
        name_of(path)
        for path in FILES
        if any(name == package or name.startswith(f"{package}.") for name in imported_modules(path))
    }


def test_mlflow_is_used_in_tracking_and_registry_only():
    allowed = ("components/tracking", "components/registry/")
    assert all(name.startswith(allowed) for name in importers_of("mlflow"))


def test_prefect_is_used_in_flows_only():
    assert all(name.startswith("flows/") for name in importers_of("prefect"))


def test_only_runtime_reads_the_environment():
    readers = {
        name_of(path)
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    }
    assert readers == {"components/runtime.py"}


def test_every_module_says_why_it_exists():
    silent = [name_of(p) for p in FILES if p.name != "__init__.py" and not ast.get_docstring(tree_of(p))]
    assert silent == []


def test_test_files_outside_packages_differ_in_name():
    """pytest imports them by it: of two, the second one is not collected where one process has both."""
    loose = [
        path.name
        for path in (ROOT / "tests").rglob("test_*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert sorted(set(loose)) == sorted(loose)


@pytest.fixture(scope="module")
def dvc_stages() -> dict[str, PipelineStage]:
    with Repo(str(ROOT)) as repo:
        return {stage.addressing: stage for stage in repo.index.stages}


RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}


@cache
def recipe_of(system: str | None) -> Params:
    """The smallest recipe that trains a system."""
    name = "demo" if system in (None, "open_sora") else f"{system}_tiny"
    return Params.load(RECIPES[name])


@pytest.fixture(scope="module")
def params() -> Params:
    return Params.load(ROOT / "params.yaml")


def test_dvc_and_the_stage_table_name_the_same_stages(dvc_stages):
    assert set(dvc_stages) == {stage.address for stage in STAGES.values()}


def test_every_system_has_a_small_recipe_and_a_published_one():
    recipes = [Params.load(path) for path in RECIPES.values()]
    systems = {stage.system for stage in STAGES.values() if stage.system}
    for system in systems:
        names = {recipe.recipe for recipe in recipes if system_of(recipe) == system}
        assert len(names) >= 2, system
        assert recipe_of(system).recipe in names


@pytest.mark.parametrize("name", STAGES)
def test_dvc_runs_what_the_stage_table_says(name: str, dvc_stages, params: Params):
    stage = STAGES[name]
    dvc_stage = dvc_stages[stage.address]
    assert dvc_stage.wdir == str(ROOT)
    assert dvc_stage.cmd == f"python -m components {name}"
    paths = stage.paths(Path(), params)
    depends = {dep.def_path for dep in dvc_stage.deps}
    assert {path.as_posix() for path in paths.inputs.values()} <= depends
    outputs = {out.def_path for out in dvc_stage.outs}
    assert outputs == {path.as_posix() for path in paths.outputs.values()} | {stage.report}
    tracked = {key for dep in dvc_stage.params for key in dep.params}
    assert tracked == {stage.section}
    assert recipe_of(stage.system).section(stage.section) is not None


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_function_of_its_section_and_its_paths(name: str):
    module = ROOT / (STAGES[name].module.replace(".", "/") + ".py")
    functions = [
        node for node in tree_of(module).body if isinstance(node, ast.FunctionDef) and node.name == "run"
    ]
    assert len(functions) == 1
    assert [argument.arg for argument in functions[0].args.args] == ["config", "paths"]


def module_file(name: str) -> Path | None:
    base = ROOT / name.replace(".", "/")
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def code_read_by(module: str) -> set[str]:
    """Files of the house that a stage's module imports, directly or not."""
    waiting, found = [module], set()
    while waiting:
        path = module_file(waiting.pop())
        if path is None or name_of(path) in found or name_of(path) in HOUSE:
            continue
        found.add(name_of(path))
        waiting += [name for name in imported_modules(path) if name.split(".")[0] in PACKAGES]
    return {name for name in found if not name.endswith(("__init__.py", "config.py"))}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_it_runs(name: str, dvc_stages):
    depends = [dep.def_path for dep in dvc_stages[STAGES[name].address].deps]
    uncovered = {
        file
        for file in code_read_by(STAGES[name].module)
        if not any(file == dep or file.startswith(f"{dep}/") for dep in depends)
    }
    assert uncovered == set()


def test_the_demo_recipe_is_the_default():
    assert (ROOT / "recipes/demo.yaml").read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_parameter_set_without_sections_left_over(name: str):
    params = Params.load(RECIPES[name])
    assert params.recipe == name
    sections = {stage.section.split(".")[0] for stage in stages_of(params).values()}
    assert set(yaml.safe_load(RECIPES[name].read_text())) == sections | {"recipe", "candidate", "runtime"}
