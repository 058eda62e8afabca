# Passwords of the services themselves. They are drawn by Secrets Manager while applying and written without ever
# being stored in the state. Rotation: raise `secrets_version`.

locals {
  secrets = {
    mlflow-admin  = "password of the MLflow administrator"
    mlflow-cookie = "key that signs MLflow's sessions"
    prefect-api   = "user:password of the Prefect API"
  }
}

ephemeral "aws_secretsmanager_random_password" "drawn" {
  for_each = local.secrets

  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "service" {
  #checkov:skip=CKV2_AWS_57:rotated by applying with a higher secrets_version, after which the services restart
  for_each = local.secrets

  name                    = "${var.name}/${each.key}"
  description             = each.value
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 0 # drawn, so drawn again: a name that is kept back a week blocks the next bring-up
}

resource "aws_secretsmanager_secret_version" "service" {
  for_each = local.secrets

  secret_id                = aws_secretsmanager_secret.service[each.key].id
  secret_string_wo_version = var.secrets_version
  secret_string_wo = join("", [
    each.key == "prefect-api" ? "reelforge:" : "",
    ephemeral.aws_secretsmanager_random_password.drawn[each.key].random_password,
  ])
}
