"""``python -m mpnn_arch`` is ``mpnn-arch``."""

from mpnn_arch.cli import main

if __name__ == "__main__":
    main()
