"""`python -m harness` is `diffbench`."""

from harness.cli import main

if __name__ == "__main__":
    main()
