//! Kernels and the program executor.
