# The GPU group. It starts empty and goes back to empty: a machine runs only while a gang of pods asks for it.
# One zone, because EFA does not cross zones.

locals {
  gpu      = var.gpu_nodes[*]
  market   = { on-demand = "ON_DEMAND", spot = "SPOT", capacity-block = "CAPACITY_BLOCK" }
  gpu_disk = "/dev/xvda"
}

# Whether AWS sells the machine in that zone is known before anything is made.
data "aws_ec2_instance_type_offerings" "gpu" {
  count = length(local.gpu)

  location_type = "availability-zone"
  filter {
    name   = "instance-type"
    values = [local.gpu[0].instance_type]
  }
  filter {
    name   = "location"
    values = [local.gpu[0].zone]
  }

  lifecycle {
    postcondition {
      condition     = length(self.instance_types) > 0
      error_message = "${local.gpu[0].instance_type} is not sold in ${local.gpu[0].zone}; name another zone in gpu_nodes.zone."
    }
  }
}

resource "aws_placement_group" "gpu" {
  count = length([for gpu in local.gpu : gpu if gpu.placement_group])

  name     = "${var.name}-gpu"
  strategy = "cluster"
}

# EFA needs a group that lets everything through between its own members, in both directions by reference.
resource "aws_security_group" "efa" {
  count = length(local.gpu)

  name        = "${var.name}-efa"
  description = "GPU nodes among themselves"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "efa" {
  count = length(local.gpu)

  security_group_id            = aws_security_group.efa[0].id
  description                  = "EFA from the group itself"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.efa[0].id
}

resource "aws_vpc_security_group_egress_rule" "efa" {
  count = length(local.gpu)

  security_group_id            = aws_security_group.efa[0].id
  description                  = "EFA to the group itself"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.efa[0].id
}

resource "aws_launch_template" "gpu" {
  count = length(local.gpu)

  name_prefix            = "${var.name}-gpu-"
  update_default_version = true
  instance_type          = local.gpu[0].instance_type
  user_data              = filebase64("${path.module}/gpu_nodes.mime")

  # One EFA per network card. Card 0 carries IP too; the others carry EFA only and so take no address of the subnet.
  # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-acc-inst-types.html
  dynamic "network_interfaces" {
    for_each = range(local.gpu[0].efa_interfaces)
    content {
      network_card_index    = network_interfaces.value
      device_index          = network_interfaces.value == 0 ? 0 : 1
      interface_type        = network_interfaces.value == 0 ? "efa" : "efa-only"
      delete_on_termination = true
      security_groups       = concat(local.node_groups, [aws_security_group.efa[0].id])
    }
  }

  # A block of capacity has its own placement; asking for another group as well finds no machine.
  dynamic "placement" {
    for_each = aws_placement_group.gpu
    content {
      group_name = placement.value.name
    }
  }

  dynamic "instance_market_options" {
    for_each = [for gpu in local.gpu : gpu if gpu.purchase == "capacity-block"]
    content {
      market_type = "capacity-block"
    }
  }

  dynamic "capacity_reservation_specification" {
    for_each = [for gpu in local.gpu : gpu if gpu.reservation_id != null]
    content {
      capacity_reservation_target {
        capacity_reservation_id = capacity_reservation_specification.value.reservation_id
      }
    }
  }

  block_device_mappings {
    device_name = local.gpu_disk
    ebs {
      volume_type           = "gp3"
      volume_size           = local.gpu[0].disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # pods do not get the machine's role
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = { Name = "${var.name}-gpu" }
    }
  }
}

resource "aws_eks_node_group" "gpu" {
  count = length(local.gpu)

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "gpu"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [var.private_subnets[local.gpu[0].zone]]
  ami_type        = "AL2023_x86_64_NVIDIA"
  capacity_type   = local.market[local.gpu[0].purchase]

  labels = {
    "reelforge.io/nodes" = "gpu"
    # the autoscaler then waits for a new node's device plugin instead of starting a second machine for the same pod
    "k8s.amazonaws.com/accelerator" = local.gpu[0].instance_type == "p5.48xlarge" ? "nvidia-h100" : "nvidia-h200"
  }

  # what a node of the empty group would have: the autoscaler starts one for pods that ask for it
  tags = {
    "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"        = "8"
    "k8s.io/cluster-autoscaler/node-template/resources/vpc.amazonaws.com/efa" = tostring(local.gpu[0].efa_interfaces)
  }

  scaling_config {
    min_size     = 0
    desired_size = 0
    max_size     = local.gpu[0].max
  }

  taint {
    key    = "nvidia.com/gpu"
    value  = "present"
    effect = "NO_SCHEDULE"
  }

  node_repair_config {
    enabled = true # a machine whose GPU fails is replaced
  }

  update_config {
    max_unavailable = 1
  }

  launch_template {
    id      = aws_launch_template.gpu[0].id
    version = aws_launch_template.gpu[0].latest_version
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the autoscaler's
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}
