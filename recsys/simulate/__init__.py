"""Listeners who play against a recommender; see :mod:`recsys.simulate.run` and ``python -m recsys.simulate --help``."""
