"""What a model is, in pure numpy, to everyone who trains, serves, judges or watches it."""
