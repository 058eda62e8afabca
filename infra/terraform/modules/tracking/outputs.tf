output "databases" {
  description = "Service -> where its database is and which secret holds user and password."
  value = {
    for service, database in aws_db_instance.this : service => {
      host       = database.address
      port       = database.port
      database   = database.db_name
      secret_arn = database.master_user_secret[0].secret_arn
    }
  }
}

output "secret_arns" {
  description = "Secret (mlflow-admin, mlflow-cookie, prefect-api) -> ARN."
  value       = { for key, secret in aws_secretsmanager_secret.service : key => secret.arn }
}
