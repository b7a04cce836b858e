"""One measurement for each claim about speed: ours beside the floor, taken in the same run."""
