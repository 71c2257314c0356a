"""The command `aasist-deploy`, `python -m aasist_deploy`, and so `torchrun -m aasist_deploy`."""

import signal
import sys

_INTERRUPTED = 130  # what a shell expects of a program that ended by Ctrl-C


def main() -> None:
    """Run the command line; Ctrl-C while it still imports is no traceback either.

    Until everything is imported there is nothing to clean up, and Ctrl-C ends the process as the
    system does. An exception in the middle of an import would become whatever the module makes of
    it: numpy's takes it for a broken installation.
    """
    try:
        # Whoever started this may have it ignored, as a shell does for what runs behind it.
        is_pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_pythons:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        from aasist_deploy.cli import main as run

        if is_pythons:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
