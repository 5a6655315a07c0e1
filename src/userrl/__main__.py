"""`python -m userrl`: the command line where the command itself is not on the path."""

from userrl.cli import main

if __name__ == "__main__":
    main()
