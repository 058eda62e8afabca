variable "name" {
  description = "Prefix of every name, such as reelforge-dev."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network; each zone gets a sixteenth for nodes and pods and a 256th for its gateway."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) <= 18, false)
    error_message = "cidr must be an IPv4 block of /18 or larger: a GPU node alone takes dozens of addresses."
  }
}

variable "zones" {
  description = "Availability zones, at least two; their order fixes their addresses, so only append."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 6
    error_message = "EKS and RDS need two zones; the address plan holds six."
  }
}

variable "nat_per_zone" {
  description = "One NAT gateway per zone (a zone may fail) instead of one for all (cheaper)."
  type        = bool
}

variable "kms_key_arn" {
  description = "Key that encrypts the flow log."
  type        = string
}

variable "log_retention_days" {
  description = "How long the flow log is kept."
  type        = number
}
