"""Looks at finished nights, read-only: a date goes in, checks, differences, explanations and pages come out."""
