# Passwords of the services themselves: drawn while applying, written to Secrets Manager, and in neither plan nor
# state, because `secret_string_wo` is write-only. Rotation: raise `secrets_version`.

locals {
  secrets = {
    mlflow-admin  = { description = "password of the MLflow administrator", prefix = "" }
    mlflow-cookie = { description = "key that signs MLflow's sessions", prefix = "" }
    prefect-api   = { description = "user:password of the Prefect API", prefix = "reelforge:" }
  }
}

resource "aws_secretsmanager_secret" "service" {
  #checkov:skip=CKV2_AWS_57:rotated by applying with a higher secrets_version, after which the services restart
  for_each = local.secrets

  name                    = "${var.name}/${each.key}"
  description             = each.value.description
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 0 # drawn, so drawn again: a name that is kept back a week blocks the next bring-up
}

resource "aws_secretsmanager_secret_version" "service" {
  for_each = local.secrets

  secret_id                = aws_secretsmanager_secret.service[each.key].id
  secret_string_wo_version = var.secrets_version
  secret_string_wo         = "${each.value.prefix}${replace("${uuid()}${uuid()}", "-", "")}" # 244 random bits
}
