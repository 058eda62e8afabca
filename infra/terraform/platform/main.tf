# The whole platform of one environment. Storage stands alone; `compute` brings up what runs on it.

locals {
  name    = "reelforge-${var.environment}"
  compute = var.compute ? 1 : 0
  efa     = { "p5.48xlarge" = 32, "p5e.48xlarge" = 32, "p5en.48xlarge" = 16 } # network cards
}

data "aws_caller_identity" "current" {}

# The state remembers whose it is: dev's values never turn what stands in prod's state into a second dev.
resource "terraform_data" "environment" {
  input = var.environment

  lifecycle {
    ignore_changes = [input]

    postcondition {
      condition     = self.output == var.environment
      error_message = "this is the state of ${self.output}, and the values are those of ${var.environment}: `terraform init -reconfigure` with that environment's backend file."
    }
  }
}

module "storage" {
  source = "../modules/storage"

  name            = local.name
  destroy_buckets = var.destroy_buckets
  noncurrent_days = var.noncurrent_days
}

module "budget" {
  source = "../modules/budget"
  count  = length(var.budget[*])

  name        = "${local.name}-monthly"
  monthly_usd = var.budget.monthly_usd
  emails      = var.budget.emails
}

module "network" {
  source = "../modules/network"
  count  = local.compute

  name               = local.name
  cidr               = var.vpc_cidr
  zones              = var.zones
  nat_per_zone       = var.nat_per_zone
  kms_key_arn        = module.storage.kms_key_arn
  log_retention_days = var.log_retention_days
}

module "cluster" {
  source = "../modules/cluster"
  count  = local.compute

  name               = local.name
  kubernetes_version = var.kubernetes_version
  vpc_id             = module.network[0].vpc_id
  private_subnets    = module.network[0].private_subnets
  api_cidrs          = var.api_cidrs
  admin_role_arns    = var.admin_role_arns
  addons             = var.addons
  kms_key_arn        = module.storage.kms_key_arn
  log_retention_days = var.log_retention_days
  cpu_nodes          = var.cpu_nodes
  gpu_nodes = var.gpu_nodes == null ? null : merge(var.gpu_nodes, {
    efa_interfaces  = local.efa[var.gpu_nodes.instance_type]
    placement_group = coalesce(var.gpu_nodes.placement_group, var.gpu_nodes.reservation_id == null)
  })
}

module "lustre" {
  source = "../modules/lustre"
  count  = var.lustre == null ? 0 : local.compute

  name                   = local.name
  vpc_id                 = module.network[0].vpc_id
  subnet_id              = module.network[0].private_subnets[var.gpu_nodes == null ? var.zones[0] : var.gpu_nodes.zone]
  node_security_group_id = module.cluster[0].node_security_group_id
  kms_key_arn            = module.storage.kms_key_arn
  storage_gib            = var.lustre.storage_gib
  mbps_per_tib           = var.lustre.mbps_per_tib
}

module "tracking" {
  source = "../modules/tracking"
  count  = local.compute

  name                     = local.name
  vpc_id                   = module.network[0].vpc_id
  subnet_ids               = values(module.network[0].private_subnets)
  client_security_group_id = module.cluster[0].node_security_group_id
  kms_key_arn              = module.storage.kms_key_arn
  log_retention_days       = var.log_retention_days
  databases                = var.databases
}

module "secrets" {
  source = "../modules/secrets"
  count  = local.compute

  name            = local.name
  kms_key_arn     = module.storage.kms_key_arn
  secrets_version = var.secrets_version
}
