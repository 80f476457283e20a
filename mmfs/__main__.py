"""`python -m mmfs` is the `mmfs` command."""

from mmfs.cli import main

if __name__ == "__main__":
    main()
