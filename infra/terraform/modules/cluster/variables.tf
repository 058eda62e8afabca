variable "name" {
  description = "Name of the cluster and prefix of every name."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "private_subnets" {
  description = "Zone -> private subnet id."
  type        = map(string)
}

variable "api_cidrs" {
  description = "Public addresses that may reach the Kubernetes API; none leaves it to the private network."
  type        = list(string)
}

variable "admin_role_arns" {
  description = "IAM roles that administer the cluster; none makes its creator the administrator."
  type        = set(string)
}

variable "addons" {
  description = "EKS add-ons, each at the version that EKS takes for the cluster's."
  type        = set(string)
}

variable "kms_key_arn" {
  description = "Key that encrypts Kubernetes secrets and logs."
  type        = string
}

variable "log_retention_days" {
  description = "How long control-plane logs are kept."
  type        = number
}

variable "cpu_nodes" {
  description = "The group that holds services and CPU stages."
  type = object({
    instance_types = list(string)
    min            = number
    max            = number
    disk_gib       = number
  })
}

variable "gpu_nodes" {
  description = "The GPU group; null for none. `efa_interfaces` is what the instance type has."
  type = object({
    instance_type   = string
    efa_interfaces  = number
    max             = number
    zone            = string
    purchase        = string
    reservation_id  = string
    placement_group = bool
    disk_gib        = number
  })
}
