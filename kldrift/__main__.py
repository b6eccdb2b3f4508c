"""``python -m kldrift`` is the ``kldrift`` command."""

from kldrift.cli import main

if __name__ == "__main__":
    main()
