output "buckets" {
  description = "Purpose -> bucket name."
  value       = { for purpose, bucket in module.bucket : purpose => bucket.name }
}

output "bucket_arns" {
  description = "Purpose -> bucket ARN."
  value       = { for purpose, bucket in module.bucket : purpose => bucket.arn }
}

output "images" {
  description = "Image (cpu, gpu, vbench) -> repository address."
  value       = { for image, repository in aws_ecr_repository.image : image => repository.repository_url }
}

output "kms_key_arn" {
  description = "Key of the environment's data."
  value       = aws_kms_key.data.arn
}
