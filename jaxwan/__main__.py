"""Run the command line as `python -m jaxwan`."""

from jaxwan.cli import main

main()
