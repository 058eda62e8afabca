"""The security scan: no failed check, and each exception says why, where it applies."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.runtime import install_environment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra/checkov/.venv"
CHECKOV = FOLDER / "bin/checkov"
OFFLINE = (
    "dns error",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "Connection refused",
)
MIN_RESOURCES = 80  # fewer: it did not follow the modules

pytestmark = [pytest.mark.infra, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def checkov() -> None:
    """Its environment, made as `make test-infra` makes it. Skips only where no package can be fetched."""
    if CHECKOV.exists():
        return
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert uv, f"{CHECKOV} is not there, nor uv to make it: make infra-scan"
    requirements = FOLDER.parent / "requirements.txt"
    for words in (
        ["venv", "--clear", "--python", sys.executable, FOLDER],
        ["pip", "install", "--python", FOLDER / "bin/python", "-r", requirements],
    ):
        done = subprocess.run(
            [uv, *words], env=install_environment(), capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode and any(reason in done.stderr for reason in OFFLINE):
            pytest.skip(f"checkov cannot be fetched here: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, f"checkov's environment cannot be made: {done.stderr[-2000:]}"


def scan(folder: Path) -> dict[str, Any]:
    """Checkov's report on a folder that holds infra/terraform."""
    config = ROOT / "infra/checkov/config.yaml"
    done = subprocess.run(
        [CHECKOV, "--config-file", config, "-o", "json"],
        check=False,  # 1 where a check fails
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return dict(json.loads(done.stdout))


def test_no_check_fails_without_a_written_reason():
    report = scan(ROOT)
    failed = [f"{check['check_id']} {check['resource']}" for check in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["resource_count"] > MIN_RESOURCES
    for check in report["results"]["skipped_checks"]:
        reason = check["check_result"]["suppress_comment"]
        assert len(reason.split()) >= 6, f"{check['check_id']} {check['resource']}: {reason}"


def test_an_unencrypted_public_database_is_found(tmp_path: Path):
    folder = tmp_path / "infra" / "terraform"
    shutil.copytree(ROOT / "infra/terraform/modules/tracking", folder)
    shutil.copytree(ROOT / "infra/terraform/platform/environments", folder / "platform/environments")
    code = (folder / "main.tf").read_text()
    worse = code.replace("publicly_accessible    = false", "publicly_accessible    = true")
    worse = worse.replace("storage_encrypted     = true", "storage_encrypted     = false")
    assert worse != code
    (folder / "main.tf").write_text(worse)
    found = {check["check_id"] for check in scan(tmp_path)["results"]["failed_checks"]}
    assert {"CKV_AWS_16", "CKV_AWS_17"} <= found  # encrypted at rest; not public
