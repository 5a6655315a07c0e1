"""Measuring agents: play, count, and say how sure one can be."""
