output "name" {
  description = "Name of the cluster, known once it has nodes."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Address of the Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "issuer" {
  description = "Address of the cluster's identity provider."
  value       = aws_eks_cluster.this.identity[0].oidc[0].issuer
}

output "provider_arn" {
  description = "IAM's name for the identity provider."
  value       = aws_iam_openid_connect_provider.pods.arn
}

output "node_security_group_id" {
  description = "Group that every node is in."
  value       = aws_security_group.node.id
}
