"""From a checkpoint and the rows of a CSV to the rows after them."""
