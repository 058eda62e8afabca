output "arns" {
  description = "Secret (mlflow-admin, mlflow-cookie, prefect-api) -> ARN."
  value       = { for key, secret in aws_secretsmanager_secret.service : key => secret.arn }
}
