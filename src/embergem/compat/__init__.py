"""Classes with the shape of other libraries, for programs that come from them."""
