"""Data, training, evaluation and export around the models of the zoo."""
