variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_id" {
  description = "Subnet in the zone of the GPU nodes: Lustre across zones costs time and money."
  type        = string
}

variable "node_security_group_id" {
  description = "Group of the nodes that mount it."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts it."
  type        = string
}

variable "storage_gib" {
  description = "Capacity in GiB: 1200 or a multiple of 2400."
  type        = number

  validation {
    condition     = var.storage_gib == 1200 || (var.storage_gib >= 2400 && var.storage_gib % 2400 == 0)
    error_message = "FSx for Lustre sells 1200 GiB or a multiple of 2400 GiB."
  }
}

variable "mbps_per_tib" {
  description = "Throughput per TiB in MB/s: 125, 250, 500 or 1000."
  type        = number

  validation {
    condition     = contains([125, 250, 500, 1000], var.mbps_per_tib)
    error_message = "mbps_per_tib is 125, 250, 500 or 1000."
  }
}
