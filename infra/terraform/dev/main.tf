# A root has no code of its own: the provider, the stack and, in environment.auto.tfvars, what this environment
# differs in. The state is in the bucket that infra/terraform/state makes.

terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # terraform init -backend-config=backend.hcl, a file that the state stack prints
  backend "s3" {}
}

provider "aws" {
  region                      = var.region
  max_retries                 = 5
  skip_credentials_validation = var.aws_endpoint != null
  skip_metadata_api_check     = var.aws_endpoint != null
  s3_use_path_style           = var.aws_endpoint != null

  default_tags {
    tags = { project = "reelforge", environment = var.environment }
  }

  dynamic "endpoints" {
    for_each = var.aws_endpoint[*]
    content {
      budgets        = endpoints.value
      ec2            = endpoints.value
      ecr            = endpoints.value
      eks            = endpoints.value
      fsx            = endpoints.value
      iam            = endpoints.value
      kms            = endpoints.value
      logs           = endpoints.value
      rds            = endpoints.value
      s3             = endpoints.value
      secretsmanager = endpoints.value
      sts            = endpoints.value
    }
  }
}

module "stack" {
  source = "../modules/stack"

  environment        = var.environment
  region             = var.region
  zones              = var.zones
  compute            = var.compute
  vpc_cidr           = var.vpc_cidr
  nat_per_zone       = var.nat_per_zone
  api_cidrs          = var.api_cidrs
  admin_role_arns    = var.admin_role_arns
  kubernetes_version = var.kubernetes_version
  addons             = var.addons
  cpu_nodes          = var.cpu_nodes
  gpu_nodes          = var.gpu_nodes
  lustre             = var.lustre
  databases          = var.databases
  destroy_buckets    = var.destroy_buckets
  noncurrent_days    = var.noncurrent_days
  log_retention_days = var.log_retention_days
  secrets_version    = var.secrets_version
  budget             = var.budget
}

output "profile" {
  description = "What the platform must know of this environment: `terraform output -json profile`. No secret is in it."
  value       = module.stack.profile
}

output "kubeconfig_command" {
  description = "How to get access to the cluster."
  value       = var.compute ? "aws eks update-kubeconfig --region ${var.region} --name ${module.stack.profile.cluster.name}" : null
}
