"""What the Python entry points share: requests made, sent in pieces, and vectors given the form asked for."""
