output "name" {
  description = "Name of the budget."
  value       = aws_budgets_budget.monthly.name
}

output "alarms" {
  description = "What raises an alarm, as TYPE at PERCENT, and whom it tells."
  value = {
    at     = sort([for alarm in aws_budgets_budget.monthly.notification : "${alarm.notification_type} at ${alarm.threshold}"])
    emails = distinct(flatten([for alarm in aws_budgets_budget.monthly.notification : alarm.subscriber_email_addresses]))
  }
}
