"""`python -m gifcore`: the command line."""

from gifcore.cli import main

if __name__ == "__main__":
    main()
