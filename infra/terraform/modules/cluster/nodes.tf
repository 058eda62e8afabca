# What both node groups share: the role of a machine, and addons. A machine may join, pull images and be reached
# through Session Manager; what a pod may do is a matter of its service account's role.

locals {
  node_groups = compact([aws_eks_cluster.this.vpc_config[0].cluster_security_group_id, aws_security_group.node.id])
  node_policies = toset([
    "AmazonEC2ContainerRegistryReadOnly",
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonSSMManagedInstanceCore",
  ])
  addon_settings = {
    # network policies are enforced by the network plug-in, and only where asked
    vpc-cni = { enableNetworkPolicy = "true" }
  }
}

resource "aws_iam_role" "node" {
  name = "${var.name}-node"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = local.node_policies

  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value}"
}

# What databases and file systems know the nodes by. The group that EKS makes carries the cluster's own traffic.
resource "aws_security_group" "node" {
  name        = "${var.name}-node"
  description = "Nodes, as databases and file systems know them"
  vpc_id      = var.vpc_id
}

resource "aws_launch_template" "cpu" {
  name_prefix            = "${var.name}-cpu-"
  update_default_version = true
  vpc_security_group_ids = local.node_groups

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = var.cpu_nodes.disk_gib
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
      tags          = { Name = "${var.name}-cpu" }
    }
  }
}

resource "aws_eks_node_group" "cpu" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "cpu"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = values(var.private_subnets)
  ami_type        = "AL2023_x86_64_STANDARD"
  instance_types  = var.cpu_nodes.instance_types
  labels          = { "reelforge.io/nodes" = "cpu" }

  scaling_config {
    min_size     = var.cpu_nodes.min
    desired_size = var.cpu_nodes.min
    max_size     = var.cpu_nodes.max
  }

  update_config {
    max_unavailable = 1
  }

  launch_template {
    id      = aws_launch_template.cpu.id
    version = aws_launch_template.cpu.latest_version
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the autoscaler's
  }

  # without the network plug-in no node becomes ready, and the group waits for one
  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}

resource "aws_eks_addon" "before_nodes" {
  for_each = setintersection(var.addons, ["kube-proxy", "vpc-cni"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"
  configuration_values        = contains(keys(local.addon_settings), each.value) ? jsonencode(local.addon_settings[each.value]) : null
}

resource "aws_eks_addon" "after_nodes" {
  for_each = setsubtract(var.addons, ["kube-proxy", "vpc-cni"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.value
  service_account_role_arn    = each.value == "aws-ebs-csi-driver" ? module.volumes.role_arns["volumes"] : null
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [aws_eks_node_group.cpu]
}

module "volumes" {
  source = "../access"

  name         = var.name
  provider_arn = aws_iam_openid_connect_provider.pods.arn
  issuer       = aws_eks_cluster.this.identity[0].oidc[0].issuer
  accounts = {
    volumes = {
      namespace       = "kube-system"
      service_account = "ebs-csi-controller-sa"
      managed_policy  = "service-role/AmazonEBSCSIDriverPolicy"
    }
  }
}
