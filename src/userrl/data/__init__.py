"""Task sets: files of tasks, their manifest (hash, licence, source) and splits; the home of imported ones."""

from userrl.data.sets import TaskSet, digest, imported_sets, read_tasks, split_of, write_tasks

__all__ = ["TaskSet", "digest", "imported_sets", "read_tasks", "split_of", "write_tasks"]
