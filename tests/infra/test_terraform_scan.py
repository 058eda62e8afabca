"""The security scan: no failed check, and each exception says why, where it applies."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHECKOV = ROOT / "infra/checkov/.venv/bin/checkov"
MIN_RESOURCES = 80  # fewer: it did not follow the modules

pytestmark = [pytest.mark.infra, pytest.mark.slow]


def scan(folder: Path) -> dict[str, Any]:
    """Checkov's report on a folder that holds infra/terraform."""
    if not CHECKOV.exists():
        pytest.skip("checkov has an environment of its own: make infra-scan")
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
    code = (folder / "main.tf").read_text()
    worse = code.replace("publicly_accessible    = false", "publicly_accessible    = true")
    worse = worse.replace("storage_encrypted     = true", "storage_encrypted     = false")
    assert worse != code
    (folder / "main.tf").write_text(worse)
    found = {check["check_id"] for check in scan(tmp_path)["results"]["failed_checks"]}
    assert {"CKV_AWS_16", "CKV_AWS_17"} <= found  # encrypted at rest; not public
