"""All that Redis holds: lists and runs go in, published versions, the live pointer and leases come out."""
