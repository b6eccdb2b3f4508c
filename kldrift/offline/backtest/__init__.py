"""History replayed in event time: how often it would have raised alarms, and at which tolerance it would not have."""
