variable "name" {
  description = "Prefix of every name, such as reelforge-dev."
  type        = string
}

variable "destroy_buckets" {
  description = "Buckets (raw, dvc, mlflow, checkpoints) that may be destroyed with what is in them."
  type        = set(string)
  default     = []
}

variable "noncurrent_days" {
  description = "How long a replaced or deleted object can be brought back."
  type        = number
}
