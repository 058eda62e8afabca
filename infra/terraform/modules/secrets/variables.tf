variable "name" {
  description = "Prefix of the secrets' names."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts the secrets."
  type        = string
}

variable "secrets_version" {
  description = "Raise it to draw new passwords."
  type        = number
}
