"""Tools that look at a machine, a model or another server and say what is wrong."""
