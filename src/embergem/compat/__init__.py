"""Classes with the interface of other libraries, so that programs written for those run after changing an import."""
