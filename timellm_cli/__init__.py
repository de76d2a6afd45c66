"""timellm: train and run Time-LLM, forecasting with a frozen LLM, on the hardware you have."""

__version__ = "0.1.0"
