variable "name" {
  description = "Prefix of the role names."
  type        = string
}

variable "provider_arn" {
  description = "IAM's name for the cluster's identity provider."
  type        = string
}

variable "issuer" {
  description = "Address of the cluster's identity provider."
  type        = string
}

variable "accounts" {
  description = "Role -> the one service account that may take it, and what it may do: statements, or one AWS-managed policy."
  type = map(object({
    namespace       = string
    service_account = string
    managed_policy  = optional(string)
    statements = optional(list(object({
      actions   = list(string)
      resources = list(string)
      tags      = optional(map(string), {}) # tags that the resource must carry
    })), [])
  }))

  validation {
    condition = alltrue([
      for account in var.accounts : (account.managed_policy != null) != (length(account.statements) > 0)
    ])
    error_message = "Each role has either statements or one managed policy."
  }
}
