"""Training: a recipe and a corpus become checkpoints that `export` takes as they are."""
