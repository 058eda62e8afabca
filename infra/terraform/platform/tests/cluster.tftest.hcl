mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name               = "reelforge-dev"
  kubernetes_version = "1.33"
  vpc_id             = "vpc-1"
  private_subnets    = { us-west-2a = "subnet-a", us-west-2b = "subnet-b" }
  api_cidrs          = []
  admin_role_arns    = []
  addons             = ["aws-ebs-csi-driver", "coredns", "kube-proxy", "vpc-cni"]
  kms_key_arn        = "arn:aws:kms:us-west-2:123456789012:key/data"
  log_retention_days = 365
  cpu_nodes          = { instance_types = ["m6i.2xlarge"], min = 1, max = 4, disk_gib = 100 }
  gpu_nodes = {
    instance_type   = "p5.48xlarge"
    efa_interfaces  = 32
    max             = 2
    zone            = "us-west-2b"
    purchase        = "on-demand"
    reservation_id  = null
    placement_group = true
    disk_gib        = 500
  }
}

run "h100_on_demand" {
  module {
    source = "../modules/cluster"
  }

  assert {
    condition     = length(aws_launch_template.gpu[0].network_interfaces) == 32
    error_message = "a p5.48xlarge has 32 network cards, each wants its EFA"
  }

  assert {
    condition     = join(" ", [for card in aws_launch_template.gpu[0].network_interfaces : card.network_card_index]) == join(" ", range(32))
    error_message = "one interface per network card"
  }

  assert {
    condition = join(",", [for card in aws_launch_template.gpu[0].network_interfaces : "${card.device_index} ${card.interface_type}"]) == join(",", concat(
      ["0 efa"], [for card in range(31) : "1 efa-only"]
    ))
    error_message = "card 0 is device 0 with IP; the others are device 1 with EFA only"
  }

  assert {
    condition = alltrue([
      for card in aws_launch_template.gpu[0].network_interfaces : toset(card.security_groups) == toset(["sg-nodes", aws_security_group.node.id, aws_security_group.efa[0].id])
    ])
    error_message = "every card is in the cluster's, the nodes' and the EFA group"
  }

  assert {
    condition = alltrue([
      for rule in [aws_vpc_security_group_ingress_rule.efa[0], aws_vpc_security_group_egress_rule.efa[0]] :
      rule.ip_protocol == "-1" && rule.referenced_security_group_id == aws_security_group.efa[0].id
    ])
    error_message = "EFA needs everything open inside its group, in and out, by reference"
  }

  assert {
    condition     = aws_placement_group.gpu[0].strategy == "cluster" && aws_launch_template.gpu[0].placement[0].group_name == "reelforge-dev-gpu"
    error_message = "machines must stand close together"
  }

  assert {
    condition = (
      aws_eks_node_group.gpu[0].scaling_config[0].min_size == 0 && aws_eks_node_group.gpu[0].scaling_config[0].desired_size == 0
      && aws_eks_node_group.gpu[0].scaling_config[0].max_size == 2
    )
    error_message = "the GPU group starts at zero and never passes its bound"
  }

  assert {
    condition     = aws_eks_node_group.gpu[0].subnet_ids == toset(["subnet-b"]) && aws_eks_node_group.gpu[0].capacity_type == "ON_DEMAND"
    error_message = "GPU machines stay in their zone"
  }

  assert {
    condition     = length(aws_launch_template.gpu[0].instance_market_options) == 0 && length(aws_launch_template.gpu[0].capacity_reservation_specification) == 0
    error_message = "on-demand machines name no market and no reservation"
  }

  assert {
    condition     = one(aws_eks_node_group.gpu[0].taint).key == "nvidia.com/gpu" && one(aws_eks_node_group.gpu[0].taint).effect == "NO_SCHEDULE"
    error_message = "only pods that ask for GPUs may land on them"
  }

  assert {
    condition = alltrue([
      for template in [aws_launch_template.cpu, aws_launch_template.gpu[0]] :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
      && tobool(template.block_device_mappings[0].ebs[0].encrypted)
    ])
    error_message = "machines need encrypted disks and IMDSv2 that pods cannot reach"
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.gpu[0].user_data), "strategy: RAID0")
    error_message = "the local NVMe disks must be joined"
  }

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "with no address named the API is private"
  }

  assert {
    condition = (
      aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == var.kms_key_arn
      && toset(aws_eks_cluster.this.enabled_cluster_log_types) == toset(["api", "audit", "authenticator", "controllerManager", "scheduler"])
    )
    error_message = "secrets are encrypted with our key and every log is kept"
  }

  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "without this, network policies are written and not enforced"
  }
}

run "the_autoscaler_knows_an_empty_group" {
  command = plan

  module {
    source = "../modules/cluster"
  }

  assert {
    condition     = aws_eks_node_group.gpu[0].tags["k8s.io/cluster-autoscaler/node-template/resources/vpc.amazonaws.com/efa"] == "32"
    error_message = "pods that ask for EFA start no machine unless the empty group says that it has it"
  }

  assert {
    condition     = aws_eks_node_group.gpu[0].labels["k8s.amazonaws.com/accelerator"] == "nvidia-h100"
    error_message = "without this a second machine is started while the first one's GPUs are not offered yet"
  }
}

run "a_capacity_block" {
  module {
    source = "../modules/cluster"
  }

  variables {
    gpu_nodes = {
      instance_type   = "p5.48xlarge"
      efa_interfaces  = 32
      max             = 4
      zone            = "us-west-2a"
      purchase        = "capacity-block"
      reservation_id  = "cr-0123456789abcdef0"
      placement_group = false
      disk_gib        = 500
    }
  }

  assert {
    condition = (
      aws_eks_node_group.gpu[0].capacity_type == "CAPACITY_BLOCK"
      && aws_launch_template.gpu[0].instance_market_options[0].market_type == "capacity-block"
      && aws_launch_template.gpu[0].capacity_reservation_specification[0].capacity_reservation_target[0].capacity_reservation_id == "cr-0123456789abcdef0"
      && aws_launch_template.gpu[0].instance_type == "p5.48xlarge"
    )
    error_message = "the block must be named in group, market and reservation, with its machine"
  }

  assert {
    condition     = length(aws_placement_group.gpu) == 0 && length(aws_launch_template.gpu[0].placement) == 0
    error_message = "a block has its own placement; another group finds no machine"
  }
}

run "spot" {
  module {
    source = "../modules/cluster"
  }

  variables {
    gpu_nodes = {
      instance_type   = "p5en.48xlarge"
      efa_interfaces  = 16
      max             = 1
      zone            = "us-west-2a"
      purchase        = "spot"
      reservation_id  = null
      placement_group = true
      disk_gib        = 500
    }
  }

  assert {
    condition     = aws_eks_node_group.gpu[0].capacity_type == "SPOT" && length(aws_launch_template.gpu[0].network_interfaces) == 16
    error_message = "the group asks EKS for spot machines, with the cards of their type"
  }
}

run "no_gpus_and_an_office" {
  module {
    source = "../modules/cluster"
  }

  variables {
    gpu_nodes       = null
    api_cidrs       = ["203.0.113.7/32"]
    admin_role_arns = ["arn:aws:iam::123456789012:role/admins"]
  }

  assert {
    condition     = length(aws_eks_node_group.gpu) + length(aws_launch_template.gpu) + length(aws_placement_group.gpu) + length(aws_security_group.efa) == 0
    error_message = "no GPUs asked, none described"
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.7/32"])
    error_message = "the API is open to the office and nobody else"
  }

  assert {
    condition     = !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions && length(aws_eks_access_entry.admin) == 1
    error_message = "named administrators replace the creator"
  }
}

run "a_zone_without_such_machines" {
  command = plan

  module {
    source = "../modules/cluster"
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.gpu
    values = { instance_types = [] }
  }

  expect_failures = [data.aws_ec2_instance_type_offerings.gpu]
}
