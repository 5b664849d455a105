"""`python -m daemon` is `vivarium`."""

from daemon.cli import main

main()
