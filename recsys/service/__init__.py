"""The HTTP service that answers what comes next."""

import os

# Granian's allocator reads this once, when it is loaded. What broken-off connections took goes back to the system at once, not
# after ten seconds, in which others take as much again.
os.environ.setdefault("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0")
