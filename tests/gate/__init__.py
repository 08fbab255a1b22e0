"""What `tests/run` is made of. Python 3.11, standard library only."""
