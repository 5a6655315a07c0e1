"""Task sets: files of tasks, their manifest (hash, licence, source) and splits."""

from userrl.data.sets import TaskSet, digest, read_tasks, split_of, write_tasks

__all__ = ["TaskSet", "digest", "read_tasks", "split_of", "write_tasks"]
