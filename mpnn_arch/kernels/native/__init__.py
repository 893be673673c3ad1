"""The C++ sources of the cpu backend, and their compilation."""
