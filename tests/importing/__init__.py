"""Tests of what reads commands of the original."""
