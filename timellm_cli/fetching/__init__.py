"""Downloads: what there is, where it comes from, and how it gets into the cache whole."""
