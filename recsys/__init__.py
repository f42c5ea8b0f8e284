"""Nightshift: retrains, ships and A/B-tests a music recommender every night.

Everything here is plain Python; nothing in this package imports Airflow.
"""

__version__ = "0.1.0"
