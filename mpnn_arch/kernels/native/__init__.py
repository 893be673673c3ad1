"""The C++ sources of the cpu backend, and how they become a library on this machine."""
