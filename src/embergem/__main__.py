"""`python -m embergem` is the command `embergem`."""

from embergem.cli import main

main()
