"""Task sets: files of tasks, their manifest (hash, licence, source) and splits; the home of imported ones."""

from userrl.data.home import imported_sets
from userrl.data.sets import TaskSet, digest, read_tasks, split_of, write_tasks

__all__ = ["TaskSet", "digest", "imported_sets", "read_tasks", "split_of", "write_tasks"]
