"""Is this gang of processes fit to train? Asked of every node together, before the first GPU hour is spent."""
