"""The command `aasist-deploy`, `python -m aasist_deploy`, and so `torchrun -m aasist_deploy`."""

import sys

_INTERRUPTED = 130  # what a shell expects of a program that ended by Ctrl-C


def main() -> None:
    """Run the command line; Ctrl-C while it still imports is no traceback either."""
    try:
        from aasist_deploy.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
