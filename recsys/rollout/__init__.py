"""When a candidate gets more listeners, and when it is taken back: rule, evidence, look."""
