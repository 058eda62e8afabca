# What outlives the cluster: the data key, the four buckets and the container images.

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  buckets = {
    raw         = { tiering_days = 30 }   # video as it came
    dvc         = { tiering_days = 30 }   # the DVC remote: clips, latents, weights by content
    mlflow      = { tiering_days = null } # run artifacts, small and read often
    checkpoints = { tiering_days = null } # written and dropped by training
  }
  images = toset(["cpu", "gpu", "vbench"])
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

resource "aws_kms_key" "data" {
  description             = "${var.name}: buckets, images, databases, secrets and logs"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "PoliciesOfTheAccountDecide"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${local.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "LogsOfThisAccount"
        Effect    = "Allow"
        Principal = { Service = "logs.${data.aws_region.current.name}.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
        Resource  = "*"
        Condition = {
          ArnLike = {
            "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${data.aws_region.current.name}:${local.account_id}:*"
          }
        }
      },
    ]
  })
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.data.key_id
}

module "bucket" {
  source   = "../bucket"
  for_each = local.buckets

  name            = "${var.name}-${each.key}-${local.account_id}"
  kms_key_arn     = aws_kms_key.data.arn
  noncurrent_days = var.noncurrent_days
  tiering_days    = each.value.tiering_days
  force_destroy   = contains(var.destroy_buckets, each.key)

  # a bucket that refuses to go keeps its key: objects without their key are lost
  depends_on = [aws_kms_key.data]
}

resource "aws_ecr_repository" "image" {
  for_each = local.images

  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true # images are built again from the repository

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.data.arn
  }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "image" {
  for_each = aws_ecr_repository.image

  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "the last thirty images; one of the GPU image is tens of gigabytes"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 30 }
      action       = { type = "expire" }
    }]
  })
}
