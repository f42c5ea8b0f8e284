"""The HTTP service that answers what comes next."""
