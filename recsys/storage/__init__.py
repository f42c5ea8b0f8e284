"""Dated directories that appear atomically, on files or HDFS: a local directory goes in, a published one comes out."""
