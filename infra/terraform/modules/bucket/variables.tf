variable "name" {
  description = "Name of the bucket, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket name has 3 to 63 characters: small letters, digits and hyphens."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts every object."
  type        = string
}

variable "noncurrent_days" {
  description = "How long a replaced or deleted object can be brought back."
  type        = number
}

variable "tiering_days" {
  description = "Objects older than this move to intelligent tiering; null leaves them where they are."
  type        = number
  default     = null
}

variable "force_destroy" {
  description = "Whether destroying the bucket deletes what is in it; otherwise a full bucket refuses to go."
  type        = bool
  default     = false
}
