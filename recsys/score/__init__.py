"""A score for anybody's model: fitted to standard worlds and public data, and played against the baselines."""
