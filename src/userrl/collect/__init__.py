"""From expert episodes to training data: rank, select, report, export."""

from userrl.collect.select import Left, Selection, rank, select

__all__ = ["Left", "Selection", "rank", "select"]
