"""The commands of `zoo`, a module for each kind. Keras and TensorFlow are imported only in those that need them."""
