"""The command ``railtracks``, also ``python -m railtracks``. Its commands are in ``railtracks.cli``."""

from __future__ import annotations

import sys

from railtracks import __version__


def main() -> None:
    """Run the command line, and exit with its code."""
    if sys.argv[1:] == ["--version"]:  # at once: the rest takes long to import
        print(__version__)
        return
    try:
        import cyclopts  # noqa: F401  (here, as the extra may not be installed)
    except ModuleNotFoundError as exc:
        sys.exit(f"railtracks: {exc}; install the command line with `pip install '.[cli]'` in a checkout of Railtracks")
    from railtracks.cli._app import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))


if __name__ == "__main__":
    main()
