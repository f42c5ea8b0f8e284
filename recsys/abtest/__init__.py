"""The A/B report: metrics, sessions from logs, analysis, decision, pictures."""
