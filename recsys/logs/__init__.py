"""Request logs: what the service has written goes in, valid records and published directories of logs come out."""
