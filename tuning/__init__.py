"""Search over recipes and hyper-parameters, on top of `pipelines`."""
