"""What kldrift tells others: the drift families, its own metrics, its log."""
