"""The night, one module a task: the logs of a log date go in, a verdict comes out."""
