variable "name" {
  description = "Name of the budget."
  type        = string
}

variable "monthly_usd" {
  description = "What the account may spend in a month, in US dollars."
  type        = number

  validation {
    condition     = var.monthly_usd > 0
    error_message = "monthly_usd must be above 0: a p5.48xlarge costs tens of dollars an hour."
  }
}

variable "emails" {
  description = "Who is told."
  type        = list(string)

  validation {
    condition     = length(var.emails) > 0
    error_message = "A budget that tells nobody is none: name at least one address."
  }
}

variable "alarm_percents" {
  description = "Shares of the budget at which real spending raises an alarm."
  type        = list(number)
  default     = [50, 80, 100]
}
