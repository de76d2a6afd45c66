"""Faults brought on on purpose, and counts of what was lost. Each script says how to run it; tests run it shortened."""
