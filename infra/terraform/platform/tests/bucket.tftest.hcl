mock_provider "aws" {
  source = "./tests/mocks"
}

run "a_bucket" {
  module {
    source = "../modules/bucket"
  }

  variables {
    name            = "reelforge-dev-raw-123456789012"
    kms_key_arn     = "arn:aws:kms:us-west-2:123456789012:key/data"
    noncurrent_days = 30
    tiering_days    = 30
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    error_message = "objects must be encrypted with a KMS key"
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == var.kms_key_arn
    error_message = "objects must be encrypted with the environment's key"
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "all four public-access blocks must be on"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "versions must be kept"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this.rule[0].noncurrent_version_expiration[0].noncurrent_days == 30
    error_message = "replaced versions must end, or the bill does not"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    error_message = "parts of broken uploads must end"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:*" &&
      try(statement.Condition.Bool["aws:SecureTransport"], "") == "false" && length(statement.Resource) == 2
    ])
    error_message = "plain HTTP must be refused, for the bucket and its objects"
  }

  assert {
    condition     = aws_s3_bucket.this.force_destroy == false
    error_message = "a full bucket must refuse to go unless asked"
  }
}

run "a_name_that_s3_does_not_take" {
  command = plan

  module {
    source = "../modules/bucket"
  }

  variables {
    name            = "Reelforge_Raw"
    kms_key_arn     = "arn:aws:kms:us-west-2:123456789012:key/data"
    noncurrent_days = 30
  }

  expect_failures = [var.name]
}
