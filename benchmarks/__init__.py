"""Where the figures of docs/benchmarks.md come from: each measure runs both sides, Nightshift and a reference, in one go."""
