"""The environment that is asked for: options of the command line over those of before, as Terraform variables."""

from dataclasses import dataclass
from typing import Any

from components.errors import UserError
from flows.infra.aws import VCPUS
from flows.infra.cost import GPUS_PER_MACHINE
from flows.infra.needs import Needs

PURCHASES = ("on-demand", "spot", "capacity-block")


@dataclass(frozen=True)
class Wish:
    """What was given; None where it stays as it was."""

    region: str | None = None
    zones: tuple[str, ...] = ()
    gpu_nodes: int | None = None
    gpu_zone: str | None = None
    instance_type: str | None = None
    purchase: str | None = None
    reservation: str | None = None
    budget: float | None = None
    budget_emails: tuple[str, ...] = ()
    needs: Needs | None = None


def variables(wish: Wish, before: dict[str, Any]) -> dict[str, Any]:
    """Terraform's variables. Raises `UserError` for what is missing or cannot be, before anybody is asked."""
    region = wish.region or before.get("region")
    if not region:
        raise UserError("say the region, such as --region us-west-2: H100 machines are in some only")
    zones = list(wish.zones) or (before.get("zones") if region == before.get("region") else None)
    if not zones:
        zones = [f"{region}{letter}" for letter in "ab"]
    values = {**before, "region": region, "zones": zones, "compute": True, "destroy_buckets": []}
    values["gpu_nodes"] = _gpu_nodes(wish, before.get("gpu_nodes"), zones)
    if wish.needs:
        values["lustre"] = {"storage_gib": wish.needs.lustre_gib} if wish.needs.lustre_gib else None
    values["budget"] = _budget(wish, before)
    return values


def _gpu_nodes(wish: Wish, before: dict[str, Any] | None, zones: list[str]) -> dict[str, Any] | None:
    given = wish.gpu_nodes if wish.gpu_nodes is not None else wish.needs.nodes if wish.needs else None
    if wish.needs and given is not None and given < wish.needs.nodes:
        raise UserError(
            f"{given} GPU nodes are too few: {wish.needs.recipe} on {wish.needs.gpus} x {wish.needs.gpu} trains on"
            f" {wish.needs.nodes} machines of {GPUS_PER_MACHINE} (leave --gpu-nodes out, or say fewer --gpus)"
        )
    if given is not None and given < 1:
        raise UserError(
            f"{given} GPU nodes: give 1 or more; leave --gpu-nodes out for a cluster without GPUs"
        )
    if given is None and before is None:
        return None
    values = dict(before or {})
    if given is not None:
        values["max"] = given
    values["zone"] = wish.gpu_zone or values.get("zone") or zones[0]
    if values["zone"] not in zones:
        raise UserError(f"--gpu-zone {values['zone']} is not one of the zones {', '.join(zones)} (--zone)")
    asked = wish.instance_type or (wish.needs.instance_type if wish.needs else None)
    values["instance_type"] = asked or values.get("instance_type") or "p5.48xlarge"
    if values["instance_type"] not in VCPUS:
        raise UserError(f"--instance-type {values['instance_type']}: one of {', '.join(VCPUS)}")
    values["purchase"] = wish.purchase or values.get("purchase") or PURCHASES[0]
    if values["purchase"] not in PURCHASES:
        raise UserError(f"--purchase {values['purchase']}: one of {', '.join(PURCHASES)}")
    values["reservation_id"] = (
        None if values["purchase"] == "spot" else wish.reservation or values.get("reservation_id")
    )
    if values["purchase"] == "capacity-block" and not values["reservation_id"]:
        raise UserError(
            "a capacity block needs its reservation: --reservation cr-… (EC2 > Capacity Reservations)"
        )
    return values


def _budget(wish: Wish, before: dict[str, Any]) -> dict[str, Any] | None:
    """Asked for explicitly: who spends by the hour is told by mail, or says that it is watched elsewhere (0)."""
    if wish.budget == 0:
        return None
    if wish.budget is None:
        if "budget" in before:
            kept: dict[str, Any] | None = before["budget"]
            return kept
        raise UserError(
            "say what a month may cost and who is told: --budget 5000 --budget-email team@example.org"
            " (--budget 0 where budgets are kept elsewhere)"
        )
    emails = list(wish.budget_emails) or (before.get("budget") or {}).get("emails", [])
    if wish.budget < 0 or not emails:
        raise UserError(
            f"--budget {wish.budget:g} must be above 0 and needs --budget-email: an alarm for somebody"
        )
    return {"monthly_usd": wish.budget, "emails": emails}
