"""An AWS on loopback: moto's server, taught what our Terraform sees of AWS and moto forgets.

It keeps settings that moto takes and does not give back, so that a second plan of what stands is empty. Run as
`python -m tests.infra.aws_emulator PORT`.
"""

import json
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from moto.budgets.responses import BudgetsResponse
from moto.core.responses import ActionResult
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.eks.models import Nodegroup
from moto.eks.responses import EKSResponse
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.rds.models import DBInstance, DBParameterGroup
from moto.s3.models import FakeBucket
from moto.server import main

IDS = count(1)
OF_TLS = {"aws:SecureTransport", "s3:TlsVersion"}
make_database, make_group, make_version = (
    DBInstance.__init__,
    Nodegroup.__init__,
    LaunchTemplateVersion.__init__,
)
create_cluster, create_group = EKSResponse.create_cluster, EKSResponse.create_nodegroup
create_budget, update_parameters = BudgetsResponse.create_budget, DBParameterGroup.update_parameters
budget_tags: dict[str, Any] = {}


def database(self: DBInstance, *arguments: Any, **settings: Any) -> None:
    """moto gives all its databases one id."""
    make_database(self, *arguments, **settings)
    self.dbi_resource_id = f"db-EMULATED{next(IDS):016d}"
    self.performance_insights_enabled = settings.get("enable_performance_insights", False)
    self.performance_insights_kms_key_id = settings.get("performance_insights_kms_key_id")


def group_of_nodes(self: Nodegroup, *arguments: Any, **settings: Any) -> None:
    """moto opens SSH where nobody asks for it."""
    make_group(self, *arguments, **settings)
    self.remote_access = settings.get("remote_access")


def template_version(self: LaunchTemplateVersion, *arguments: Any, **settings: Any) -> None:
    """moto takes the template's own tags for tags of what is launched from it."""
    make_version(self, *arguments, **settings)
    kept = [
        tags for tags in self.data.get("TagSpecifications", []) if tags["ResourceType"] != "launch-template"
    ]
    self.data["TagSpecifications"] = kept


def rule_description(self: SecurityGroupRule) -> str | None:
    return (self.ip_range or {}).get("Description") or (self.source_group or {}).get("Description")


def user_parameters(self: DBParameterGroup, new: Any) -> None:
    update_parameters(self, [{**parameter, "Source": "user"} for parameter in new])


def cluster(self: EKSResponse) -> ActionResult:
    answer = create_cluster(self)
    made = self.eks_backend.clusters[self._get_param("name")]
    made.access_config, made.upgrade_policy = (
        self._get_param("accessConfig"),
        self._get_param("upgradePolicy"),
    )
    return answer


def nodegroup(self: EKSResponse) -> ActionResult:
    answer = create_group(self)
    owner = self.eks_backend.clusters[self._get_param("name")]
    made = owner.nodegroups[self._get_param("nodegroupName")]
    made.update_config = self._get_param("updateConfig")
    made.node_repair_config = self._get_param("nodeRepairConfig")
    return answer


def allows(self: FakeBucket, action: str, resource: str) -> PermissionResult:
    """Of a bucket's policy, for clients that speak TLS: this server does not, and moto looks at no condition."""
    if self.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(self.policy)
    policy["Statement"] = [
        statement
        for statement in policy["Statement"]
        if not OF_TLS & {key for test in statement.get("Condition", {}).values() for key in test}
    ]
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)


def budget(self: BudgetsResponse) -> str:
    name = f"arn:aws:budgets::{self._get_param('AccountId')}:budget/{self._get_param('Budget')['BudgetName']}"
    budget_tags[name] = self._get_param("ResourceTags", [])
    return create_budget(self)


def tags_of_budget(self: BudgetsResponse) -> str:
    return json.dumps({"ResourceTags": budget_tags.get(self._get_param("ResourceARN"), [])})


def subscribers(self: BudgetsResponse) -> str:
    """moto keeps who is told, and has no way to ask."""
    account, name = self._get_param("AccountId"), self._get_param("BudgetName")
    asked = self._get_param("Notification")
    for kept in self.backend.budgets[account][name].notifications:
        if all(kept.details.get(key) == value for key, value in asked.items() if key != "NotificationState"):
            return json.dumps({"Subscribers": kept.subscribers})
    return json.dumps({"Subscribers": []})


TAUGHT: list[tuple[type, str, Callable[..., Any] | property]] = [
    (DBInstance, "__init__", database),
    (DBParameterGroup, "update_parameters", user_parameters),
    (Nodegroup, "__init__", group_of_nodes),
    (LaunchTemplateVersion, "__init__", template_version),
    (SecurityGroupRule, "description", property(rule_description)),
    (EKSResponse, "create_cluster", cluster),
    (EKSResponse, "create_nodegroup", nodegroup),
    (FakeBucket, "get_permission", allows),
    (BudgetsResponse, "create_budget", budget),
    (BudgetsResponse, "list_tags_for_resource", tags_of_budget),
    (BudgetsResponse, "describe_subscribers_for_notification", subscribers),
]

if __name__ == "__main__":
    for owner, name, function in TAUGHT:
        setattr(owner, name, function)
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
