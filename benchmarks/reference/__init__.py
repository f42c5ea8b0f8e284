"""The original 2022 system's algorithms, written again as plainly as it was: neither slowed down nor tuned."""
