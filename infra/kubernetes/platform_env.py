"""Terraform's output `profile` on standard input, an overlay's `platform.env` on standard output.

reelforge infra status --environment prod --json | python infra/kubernetes/platform_env.py --tag 0.1.0
"""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any


def values(profile: Mapping[str, Any], tag: str) -> dict[str, str]:
    """The ConfigMap `platform`. Raises `ValueError` naming what the stack lacks and how to get it."""
    for part in ("roles", "databases", "secrets"):
        if not profile[part]:
            raise ValueError(
                f"the stack has no {part}: its variable `compute` is false; set it and apply again"
            )
    roles, secrets, databases = profile["roles"], profile["secrets"], profile["databases"]
    mount = profile["lustre"]
    lustre = (
        {
            "LUSTRE_ID": mount["file_system_id"],
            "LUSTRE_DNS": mount["dns_name"],
            "LUSTRE_MOUNT": mount["mount_name"],
        }
        if mount
        else {}  # an overlay with components/lustre then says that data.LUSTRE_ID is missing
    )
    return {
        "REGION": profile["region"],
        "CLUSTER_NAME": profile["cluster"]["name"],
        "IMAGE_CPU": f"{profile['images']['cpu']}:{tag}",
        "IMAGE_GPU": f"{profile['images']['gpu']}:{tag}",
        **{f"ROLE_{name.replace('-', '_').upper()}": arn for name, arn in sorted(roles.items())},
        **{f"DATABASE_{name.upper()}": database["host"] for name, database in sorted(databases.items())},
        **{f"SECRET_{name.upper()}_DATABASE": base["secret_arn"] for name, base in sorted(databases.items())},
        **{f"SECRET_{name.replace('-', '_').upper()}": arn for name, arn in sorted(secrets.items())},
        **{f"BUCKET_{use.upper()}": name for use, name in sorted(profile["buckets"].items())},
        **lustre,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tag", required=True, help="tag of the images, as pushed")
    arguments = parser.parse_args()
    try:
        lines = values(json.load(sys.stdin), arguments.tag)
    except json.JSONDecodeError:
        sys.stderr.write("standard input is not JSON; use `reelforge infra status --json`\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.writelines(f"{key}={value}\n" for key, value in lines.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
