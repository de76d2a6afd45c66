"""The documentation against the tool: what it shows is what happens."""
