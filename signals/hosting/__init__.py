"""Strategy files of the user's own, each run in a process apart from ours."""
