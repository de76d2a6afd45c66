"""Lets `python -m timellm_cli` do what `timellm` does."""

from timellm_cli.cli import main

if __name__ == "__main__":
    main()
