variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in two zones or more."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Group of the nodes, which alone may connect."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts databases, backups and secrets."
  type        = string
}

variable "log_retention_days" {
  description = "How long the databases' logs are kept."
  type        = number
}

variable "databases" {
  description = "Size and safety of the two databases."
  type = object({
    instance_class      = string
    storage_gib         = number
    multi_az            = bool
    deletion_protection = bool
    backup_days         = number
    rotation_days       = number # null: as RDS does, every seven
  })
}
