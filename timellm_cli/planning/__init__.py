"""LLM shape, memory bill and readiness, without weights and without torch. Light."""
