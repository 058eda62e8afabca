# One root for every environment: environments/NAME.tfvars says what it differs in, and each has a state of its own
# (NAME.tfstate) in the bucket that infra/terraform/state makes.

terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # terraform init -backend-config=environments/NAME.backend.hcl, which the state stack prints
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
