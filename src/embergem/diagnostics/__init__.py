"""Tools that examine a machine, a model or another embedding engine, and report what is wrong or how fast it is."""
