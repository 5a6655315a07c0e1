"""From expert episodes to training data: rank, then select the best."""

from userrl.collect.select import Selection, rank, select

__all__ = ["Selection", "rank", "select"]
