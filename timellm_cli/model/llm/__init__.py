"""The frozen LLM: which code reads it, its weights from files to the GPU, and what a step keeps of it."""
