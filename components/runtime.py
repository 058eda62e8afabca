"""The machine this process runs on. The only module that reads the environment.

Nothing here may change a result: threads, places of services, how progress is shown. What changes a result is
a parameter in `params.yaml`. (The compute precision is a parameter too; `auto` is resolved here and
recorded.)
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from components.profile import Profile

Precision = Literal["auto", "fp32", "bf16"]


NO_PROFILE = "none"
# either of these says that credentials come from elsewhere; a profile's would win over the role that is meant
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
CREDENTIAL_SETTINGS = ("AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE")
_set_by_profile: dict[str, str] = {}


def profile_path(root: Path) -> Path | None:
    """The profile in force: `REELFORGE_PROFILE`, else `profile.yaml` in the workspace if it is there."""
    named = os.environ.get("REELFORGE_PROFILE", "")
    if named == NO_PROFILE:
        return None
    if named:
        return Path(named)
    path = root / "profile.yaml"
    return path if path.is_file() else None


def use_profile(root: Path) -> "Profile | None":
    """Point this process and its children at the profile's services; what the environment sets already stays.

    Raises `ProfileError` for a file that is no profile.
    """
    path = profile_path(root)
    if path is None:
        return None
    from components.profile import Profile

    profile = Profile.load(path)
    elsewhere = any(os.environ.get(name) for name in CREDENTIALS)
    for name, value in profile.settings(root).items():
        if name in CREDENTIAL_SETTINGS and elsewhere:
            continue
        if not os.environ.get(name):
            os.environ[name] = _set_by_profile[name] = value
    return profile


def profile_store(root: Path) -> str | None:
    """Where the profile in force puts tables and latents; None where it says nothing, or there is none."""
    path = profile_path(root)
    if path is None:
        return None
    from components.profile import Profile

    return Profile.load(path).store


def profile_overrides(settings: dict[str, str]) -> dict[str, str]:
    """Of a profile's settings, those that the environment had set to something else before: name -> its value."""
    return {
        name: os.environ[name]
        for name, value in settings.items()
        if (os.environ.get(name) or value) != value and _set_by_profile.get(name) != os.environ[name]
    }


def tracking_uri(root: Path) -> str:
    """MLflow's tracking URI: `MLFLOW_TRACKING_URI`, which a profile sets, else an SQLite file in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').resolve()}"


def tracking_enabled() -> bool:
    """False when `REELFORGE_TRACKING=off`."""
    return os.environ.get("REELFORGE_TRACKING", "on").lower() not in {"off", "0", "false"}


CAPTION_KEY = "REELFORGE_CAPTION_API_KEY"


def caption_key() -> str | None:
    """Key of the captioning endpoint: `REELFORGE_CAPTION_API_KEY`. Never a parameter, which would be in git."""
    return os.environ.get(CAPTION_KEY) or None


def parent_run_id() -> str | None:
    """MLflow run of the pipeline that started this stage, if one did."""
    return os.environ.get("REELFORGE_PARENT_RUN") or None


def is_main_process() -> bool:
    """True in the one process of a distributed stage that speaks to services: rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Launch:
    """This process among those of a distributed stage."""

    rank: int
    local_rank: int  # on this machine
    world_size: int


def launch() -> Launch:
    """Where `torchrun` put this process; alone where nothing launched it.

    DeepSpeed reads the same variables, and its choice of accelerator, so they are set for a lone process.
    """
    import torch

    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    return Launch(*(int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")))


def resume() -> str:
    """The checkpoint that a training stage goes on from: `REELFORGE_RESUME`, else `latest`."""
    return os.environ.get("REELFORGE_RESUME") or "latest"


def set_resume(checkpoint: str) -> None:
    """Choose it for this process; see `resume`."""
    os.environ["REELFORGE_RESUME"] = checkpoint


OURS = ("REELFORGE_", "MLFLOW_", "HF_", "NCCL_", "TORCH_")  # variables that ranks on other machines are told
ATTEMPT = "REELFORGE_ATTEMPT"


def attempt() -> int | None:
    """How often the processes of this stage were started before this time; None where no launcher started them."""
    number = os.environ.get(ATTEMPT)
    return int(number) if number else None


def rank_environment(attempt: int, **rank: int | str) -> dict[str, str]:
    """Environment of a process that a launcher starts; `rank` are the variables that torchrun would set."""
    # later ones go on from the last checkpoint
    left = RANK_VARIABLES | ({"REELFORGE_RESUME"} if attempt else set())
    inherited = {name: value for name, value in os.environ.items() if name not in left}
    return {**inherited, ATTEMPT: str(attempt), **{name: str(value) for name, value in rank.items()}}


RANK_VARIABLES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def launch_address() -> str | None:
    """Where the nodes of a job meet, if no parameter says so: `REELFORGE_LAUNCH_ADDRESS`, which a job script sets."""
    return os.environ.get("REELFORGE_LAUNCH_ADDRESS") or None


def was_launched() -> bool:
    """True in a process that a launcher started as one rank, ours or the user's own torchrun."""
    return ATTEMPT in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1


def gpu_count() -> int:
    """GPUs that this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def limit_waiting(seconds: float) -> None:
    """Have NCCL give up on a rank that does not answer after so long, and say where each rank stood."""
    limits = {
        "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": str(max(int(seconds), 60)),
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_BUFFER_SIZE": "2000",
    }
    for name, value in limits.items():
        os.environ.setdefault(name, value)


def stage_environment(parent_run: str | None) -> dict[str, str]:
    """Environment for a stage's process started by a flow."""
    extra = {"DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
    if parent_run:
        extra["REELFORGE_PARENT_RUN"] = parent_run
    return {**os.environ, **extra}


def install_environment() -> dict[str, str]:
    """Environment for an installer of packages: uv finds what pip is set up to find."""
    links = os.environ.get("PIP_FIND_LINKS")
    return {**os.environ, **({"UV_FIND_LINKS": links} if links else {})}


def isolated_environment(weights: Path) -> dict[str, str]:
    """Environment for VBench's child: its weights, and no way to a network."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        **proxies,
        "no_proxy": "",
        "VBENCH_CACHE_DIR": str(weights),
        "HF_HOME": str(weights / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


OF_CLIENTS = ("AWS_", "MLFLOW_", "PG", "PREFECT_", "REELFORGE_")


def server_environment(settings: dict[str, str]) -> dict[str, str]:
    """Environment for a server started here: nothing that says where a client's services are, then `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_CLIENTS)}
    return {**kept, "DO_NOT_TRACK": "1", **settings}


def terraform_environment(data: Path) -> dict[str, str]:
    """Environment for Terraform, which keeps providers and the place of its state in `data`."""
    return {**os.environ, "TF_DATA_DIR": str(data), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}


def search_path() -> str:
    """Folders in which programs are looked for."""
    return os.environ.get("PATH", os.defpath)


@cache
def cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


@cache
def has_fast_bf16() -> bool:
    """True where bf16 matrix products are faster than fp32: CUDA, or a CPU with AMX or AVX512 bf16 units."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.exists() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags


def compute_device() -> "torch.device":
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def worker_device(index: int) -> "torch.device":
    """The device of the process of that number: GPUs are taken in turn; the CPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", index % torch.cuda.device_count())


@cache
def has_matrix_units() -> bool:
    """True with a GPU, or a CPU with AMX; AVX512 multiplies bf16 too, at about half that speed."""
    import torch

    info = Path("/proc/cpuinfo")
    return torch.cuda.is_available() or (info.exists() and "amx_bf16" in info.read_text())


def resolve_precision(precision: Precision) -> Literal["fp32", "bf16"]:
    """`auto` becomes bf16 where the machine is faster in it, fp32 elsewhere."""
    if precision == "auto":
        return "bf16" if has_fast_bf16() else "fp32"
    return precision


def progress_style() -> Literal["bar", "lines", "json"]:
    """How progress is shown: `REELFORGE_PROGRESS` if set, else a bar on a terminal and log lines elsewhere."""
    forced = os.environ.get("REELFORGE_PROGRESS", "")
    if forced == "json":
        return "json"
    if forced == "bar" or (forced != "lines" and sys.stderr.isatty()):
        return "bar"
    return "lines"


def prepare_services() -> None:
    """Defaults for the services' own settings: no telemetry, and time for a cold start on a small machine."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # we draw our own
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def quiet_prefect() -> None:
    """Prefect's own log lines are for workers; the command line draws its own. A level that is set stays."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


def quiet_ray() -> None:
    """Ray says nothing about us to its makers, and nothing to the terminal that is no error."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be: a warning less


def describe_machine() -> list[str]:
    """What matters of this machine for the time a run takes, in sentences."""
    import psutil

    memory_gb = psutil.virtual_memory().total / 1e9
    lines = [f"{cpu_count()} cores, {memory_gb:.0f} GB of memory, computing in {resolve_precision('auto')}"]
    if not has_matrix_units():
        lines.append(
            "no bf16 matrix units here: expect about twice the time; the estimate adapts as stages finish"
        )
    return lines
