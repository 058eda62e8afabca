"""What an environment costs by the hour, from Terraform's plan of it: the part that runs always, and the GPUs.

AWS's list prices of us-east-1 and us-west-2 in dollars, as of the second half of 2025. They are for the order of
magnitude: other regions, contracts, storage, traffic and requests are not in them, and no decision is taken on them.
"""

from collections.abc import Iterator
from typing import Any

HOURS_PER_MONTH = 730
CONTROL_PLANE, NAT_GATEWAY = 0.10, 0.045
MACHINES = {
    "m5.2xlarge": 0.384,
    "m5.4xlarge": 0.768,
    "m6i.2xlarge": 0.384,
    "m6i.4xlarge": 0.768,
    "p5.48xlarge": 55.04,
    "p5e.48xlarge": 43.26,  # sold as capacity blocks
    "p5en.48xlarge": 63.30,
}
DATABASES = {"db.t4g.medium": 0.065, "db.m6g.large": 0.159}  # one zone; two cost twice
LUSTRE_TIB_MONTH = {125: 148.0, 250: 215.0, 500: 348.0, 1000: 614.0}  # MB/s per TiB -> dollars
GPUS_PER_MACHINE = 8
GPU_GROUP = "gpu"  # infra/terraform/modules/cluster


def gpu_price(instance_type: str) -> float:
    """Dollars of one GPU for an hour."""
    return MACHINES[instance_type] / GPUS_PER_MACHINE


def cost_lines(plan: dict[str, Any]) -> list[str]:
    """What the planned environment costs. `plan`: Terraform's JSON."""
    always, unknown = 0.0, set()
    for kind, values in _resources(plan["planned_values"]["root_module"]):
        hourly = _hourly(kind, values)
        if hourly is None:
            unknown.add(_type(values) or str(values.get("instance_class")))
        always += hourly or 0.0
    if not always:
        return ["costs: what lies in the buckets, and nothing by the hour"]
    more = f", without {', '.join(sorted(unknown))}, whose price is not known here" if unknown else ""
    line = (
        f"costs at list prices: {always:,.2f} dollars an hour always ({always * HOURS_PER_MONTH:,.0f} a month), storage"
        f" and traffic besides{more}"
    )
    gpu_nodes = plan["variables"].get("gpu_nodes", {}).get("value")
    return [line, _gpu_line(gpu_nodes)] if gpu_nodes else [line]


def _gpu_line(gpu_nodes: dict[str, Any]) -> str:
    each, most = MACHINES[gpu_nodes["instance_type"]], gpu_nodes["max"]
    how = {"spot": "on demand; spot is less", "capacity-block": "on demand; a block is paid in advance"}
    return (
        f"and a machine of {GPUS_PER_MACHINE} GPUs {each:,.2f} an hour while it runs"
        f" ({how.get(gpu_nodes['purchase'], 'on demand')}); at most {most} run: {each * most:,.2f} an hour"
    )


def _resources(module: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in module.get("resources", []):
        if resource["mode"] == "managed":
            yield resource["type"], resource.get("values", {})
    for child in module.get("child_modules", []):
        yield from _resources(child)


def _type(values: dict[str, Any]) -> str:
    return str((values.get("instance_types") or [""])[0])


def _hourly(kind: str, values: dict[str, Any]) -> float | None:
    """Dollars an hour, 0 for what costs nothing by the hour, None for what has no price here."""
    if kind == "aws_eks_cluster":
        return CONTROL_PLANE
    if kind == "aws_nat_gateway":
        return NAT_GATEWAY
    if kind == "aws_eks_node_group" and values.get("node_group_name") != GPU_GROUP:  # which starts empty
        each = MACHINES.get(_type(values))
        return None if each is None else each * float(values["scaling_config"][0]["min_size"])
    if kind == "aws_db_instance":
        each = DATABASES.get(values["instance_class"])
        return None if each is None else each * (2 if values["multi_az"] else 1)
    if kind == "aws_fsx_lustre_file_system":
        month = LUSTRE_TIB_MONTH[values["per_unit_storage_throughput"]]
        return month * float(values["storage_capacity"]) / 1024 / HOURS_PER_MONTH
    return 0.0
