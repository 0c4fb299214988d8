"""Programs: a model as data, with compute steps over numbered buffers and the weights that the steps need."""
