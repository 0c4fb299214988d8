"""A model as data: compute steps over named buffers, and the weights they need."""
