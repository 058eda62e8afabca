output "profile" {
  description = "What the platform must know of its environment; the command line writes it into a profile file. No secret is in it."
  value = {
    environment = var.environment
    region      = var.region
    account_id  = data.aws_caller_identity.current.account_id
    namespace   = local.namespace
    work_pool   = "cpu" # of infra/kubernetes; what needs GPUs asks the pool h100 itself
    buckets     = module.storage.buckets
    images      = module.storage.images
    kms_key_arn = module.storage.kms_key_arn
    cluster = {
      name     = one(module.cluster[*].name)
      endpoint = one(module.cluster[*].endpoint)
    }
    # addresses inside the cluster; from outside through `kubectl port-forward`
    services = {
      mlflow  = "http://mlflow.${local.namespace}.svc.cluster.local:5000"
      prefect = "http://prefect-server.${local.namespace}.svc.cluster.local:4200/api"
    }
    databases = one(module.tracking[*].databases)
    secrets   = one(module.secrets[*].arns)
    roles     = one(module.access[*].role_arns)
    lustre    = one(module.lustre[*].mount)
    gpu = var.gpu_nodes == null ? null : {
      instance_type  = var.gpu_nodes.instance_type
      efa_interfaces = local.efa[var.gpu_nodes.instance_type]
      max_nodes      = var.gpu_nodes.max
      zone           = var.gpu_nodes.zone
      purchase       = var.gpu_nodes.purchase
    }
  }
}

output "kubeconfig_command" {
  description = "How to get access to the cluster."
  value       = var.compute ? "aws eks update-kubeconfig --region ${var.region} --name ${one(module.cluster[*].name)}" : null
}
