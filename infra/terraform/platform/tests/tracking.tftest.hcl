mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                     = "reelforge-prod"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-a", "subnet-b"]
  subnet_id                = "subnet-a"
  client_security_group_id = "sg-nodes"
  node_security_group_id   = "sg-nodes"
  kms_key_arn              = "arn:aws:kms:us-west-2:123456789012:key/data"
  log_retention_days       = 365
  databases = {
    instance_class      = "db.m6g.large"
    storage_gib         = 100
    multi_az            = true
    deletion_protection = true
    backup_days         = 30
    rotation_days       = 90
  }
}

run "databases" {
  module {
    source = "../modules/tracking"
  }

  assert {
    condition     = toset(keys(aws_db_instance.this)) == toset(["mlflow", "prefect"])
    error_message = "MLflow and Prefect each have their database"
  }

  assert {
    condition = alltrue([
      for database in aws_db_instance.this : database.storage_encrypted && database.kms_key_id == var.kms_key_arn
      && database.performance_insights_kms_key_id == var.kms_key_arn
    ])
    error_message = "databases and their insights are encrypted with our key"
  }

  assert {
    condition     = alltrue([for database in aws_db_instance.this : !database.publicly_accessible])
    error_message = "no database has a public address"
  }

  assert {
    condition = alltrue([
      for database in aws_db_instance.this : database.manage_master_user_password && database.password == null
      && database.master_user_secret_kms_key_id == var.kms_key_arn
    ])
    error_message = "RDS keeps the password, under our key; none is in the state"
  }

  assert {
    condition = alltrue([
      for database in aws_db_instance.this : database.multi_az && database.deletion_protection && !database.skip_final_snapshot
      && database.backup_retention_period == 30 && !database.delete_automated_backups
    ])
    error_message = "backups, two zones and protection as asked, and a snapshot at the end"
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.database.from_port == 5432 && aws_vpc_security_group_ingress_rule.database.to_port == 5432
      && aws_vpc_security_group_ingress_rule.database.referenced_security_group_id == "sg-nodes"
      && aws_vpc_security_group_ingress_rule.database.cidr_ipv4 == null
    )
    error_message = "PostgreSQL, from the nodes, and nothing else"
  }

  assert {
    condition     = one([for parameter in aws_db_parameter_group.this.parameter : parameter.value if parameter.name == "rds.force_ssl"]) == "1"
    error_message = "connections without TLS are refused"
  }
}

run "rotation" {
  command = plan

  module {
    source = "../modules/tracking"
  }

  assert {
    condition = length(aws_secretsmanager_secret_rotation.database) == 2 && alltrue([
      for rotation in aws_secretsmanager_secret_rotation.database :
      !rotation.rotate_immediately && rotation.rotation_rules[0].automatically_after_days == 90
    ])
    error_message = "passwords change when the team expects it"
  }
}

run "secrets" {
  module {
    source = "../modules/secrets"
  }

  variables {
    secrets_version = 3
  }

  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.service : secret.kms_key_id == var.kms_key_arn])
    error_message = "secrets are encrypted with our key"
  }

  assert {
    condition = alltrue([
      for version in aws_secretsmanager_secret_version.service : version.secret_string_wo == null && version.secret_string_wo_version == 3
    ])
    error_message = "values are written and never stored; the version decides when they are drawn"
  }
}

run "lustre" {
  module {
    source = "../modules/lustre"
  }

  variables {
    storage_gib  = 4800
    mbps_per_tib = 500
  }

  assert {
    condition     = aws_fsx_lustre_file_system.this.kms_key_id == var.kms_key_arn && aws_fsx_lustre_file_system.this.subnet_ids == tolist(["subnet-a"])
    error_message = "encrypted with our key, in the zone of the GPUs"
  }

  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.lustre : rule.cidr_ipv4 == null
      && contains(["sg-nodes", aws_security_group.this.id], rule.referenced_security_group_id)
    ])
    error_message = "the nodes and the servers reach it, no address does"
  }
}
