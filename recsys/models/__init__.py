"""Recommenders that a night can train, behind one small interface."""
