output "role_arns" {
  description = "Role -> ARN, for the annotation eks.amazonaws.com/role-arn of its service account."
  value       = { for role, resource in aws_iam_role.account : role => resource.arn }
}

output "policies" {
  description = "Role -> the policy that it was given, for review and tests."
  value       = { for role, policy in aws_iam_role_policy.account : role => policy.policy }
}
