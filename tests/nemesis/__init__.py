"""Faults that nobody scripted: small nights are disturbed at random, and a checker reads everything that they leave behind."""
