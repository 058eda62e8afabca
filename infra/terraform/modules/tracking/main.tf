# A PostgreSQL each for MLflow and Prefect, so that restoring one leaves the other alone. RDS makes, keeps and rotates
# the passwords in Secrets Manager: none is in this state.

locals {
  services = toset(["mlflow", "prefect"])
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "PostgreSQL from the nodes"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "PostgreSQL from the nodes"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = var.client_security_group_id
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name   = "${var.name}-postgres17"
  family = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # milliseconds
  }
}

resource "aws_cloudwatch_log_group" "database" {
  for_each = local.services

  name              = "/aws/rds/instance/${var.name}-${each.key}/postgresql"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118:performance insights and the logs answer what two small databases raise; no agent role needed
  #checkov:skip=CKV_AWS_157:two zones is a variable: on in prod, off in dev
  #checkov:skip=CKV_AWS_293:deletion protection is a variable: on in prod, off in dev
  for_each = local.services

  identifier     = "${var.name}-${each.key}"
  engine         = "postgres"
  engine_version = "17"
  instance_class = var.databases.instance_class
  db_name        = each.key
  username       = each.key

  manage_master_user_password         = true
  master_user_secret_kms_key_id       = var.kms_key_arn
  iam_database_authentication_enabled = true

  storage_type          = "gp3"
  allocated_storage     = var.databases.storage_gib
  max_allocated_storage = 10 * var.databases.storage_gib
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  multi_az               = var.databases.multi_az
  publicly_accessible    = false
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.database.id]
  parameter_group_name   = aws_db_parameter_group.this.name

  auto_minor_version_upgrade      = true
  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.kms_key_arn
  enabled_cloudwatch_logs_exports = ["postgresql"]

  backup_retention_period   = var.databases.backup_days
  delete_automated_backups  = false
  copy_tags_to_snapshot     = true
  deletion_protection       = var.databases.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-${each.key}-until-${formatdate("YYYYMMDDhhmmss", plantimestamp())}"

  lifecycle {
    ignore_changes = [final_snapshot_identifier] # of the day it was made: the next database of this name gets another
  }

  depends_on = [aws_cloudwatch_log_group.database]
}

# RDS draws new passwords every seven days unless told otherwise, and pods read them only when they start.
resource "aws_secretsmanager_secret_rotation" "database" {
  for_each = var.databases.rotation_days == null ? toset([]) : local.services

  secret_id          = aws_db_instance.this[each.key].master_user_secret[0].secret_arn
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = var.databases.rotation_days
  }
}
