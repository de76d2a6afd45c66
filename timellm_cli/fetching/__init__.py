"""Downloads: what can be fetched, from where, and how it gets into the cache, whole or not at all."""
