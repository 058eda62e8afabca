# The bucket that holds the state of the environments, made once per account. Its own state is the file beside it,
# which can be lost: `terraform import` finds the bucket again by its name.

terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "region" {
  description = "Where the state is kept: the region of the environments."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "\"${var.region}\" is no region of AWS; it looks like us-west-2."
  }
}

variable "aws_endpoint" {
  description = "An emulator of AWS on this machine, for tests; null is AWS."
  type        = string
  default     = null

  validation {
    condition     = var.aws_endpoint == null ? true : can(regex("^http://(127\\.0\\.0\\.1|localhost):[0-9]+$", var.aws_endpoint))
    error_message = "aws_endpoint is for an emulator on this machine: http://127.0.0.1:PORT."
  }
}

provider "aws" {
  region                      = var.region
  max_retries                 = 5
  skip_credentials_validation = var.aws_endpoint != null
  skip_metadata_api_check     = var.aws_endpoint != null
  s3_use_path_style           = var.aws_endpoint != null

  default_tags {
    tags = { project = "reelforge" }
  }

  dynamic "endpoints" {
    for_each = var.aws_endpoint[*]
    content {
      kms = endpoints.value
      s3  = endpoints.value
      sts = endpoints.value
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

resource "aws_kms_key" "state" {
  description             = "reelforge: state of the infrastructure"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "PoliciesOfTheAccountDecide"
      Effect    = "Allow"
      Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

module "bucket" {
  source = "../modules/bucket"

  name            = "reelforge-state-${data.aws_caller_identity.current.account_id}"
  kms_key_arn     = aws_kms_key.state.arn
  noncurrent_days = 365
}

output "backend" {
  description = "Contents of an environment's NAME.backend.hcl; add key = \"dev.tfstate\" or \"prod.tfstate\"."
  value       = <<-TEXT
    bucket       = "${module.bucket.name}"
    region       = "${var.region}"
    kms_key_id   = "${aws_kms_key.state.arn}"
    encrypt      = true
    use_lockfile = true
  TEXT
}
