"""From a CSV row to a window of history and future."""
