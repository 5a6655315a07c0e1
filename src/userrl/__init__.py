"""userrl: train and evaluate LLM agents that are good with users."""

__version__ = "0.1.0"
