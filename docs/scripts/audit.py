"""Audit a folder of Python source: the longest functions, and the files that cannot be parsed.

    python docs/scripts/audit.py [folder] [--max-lines 80] [--limit 8] [--backend trio]

By default it audits the running interpreter's own standard library, tests included: well over a thousand files, some of
which do not parse on purpose. Press Ctrl-C at any time: the state file records what was done and what was cancelled.
"""

from __future__ import annotations

import argparse
import ast
import sys
import sysconfig
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from heapq import nlargest
from pathlib import Path
from typing import Any

import attrs

import railtracks as rt


@attrs.frozen(order=True)
class Function:
    lines: int
    name: str
    where: str


@attrs.frozen
class FileReport:
    lines: int
    functions: int
    too_long: int
    longest: list[Function]


@attrs.frozen
class Audit:
    files: int
    unreadable: list[str]
    lines: int
    functions: int
    too_long: int
    longest: list[Function]


@rt.function_node
def list_files() -> list[str]:
    """List the files. This node is sync, so it runs in a worker thread, and a slow disk blocks nothing else."""
    folder = Path(rt.context.get("folder"))
    skipped = ("site-packages", "dist-packages")  # not the standard library's own
    return sorted(str(p) for p in folder.rglob("*.py") if p.is_file() and not any(part in skipped for part in p.parts))


@rt.function_node
def parse(path: str) -> FileReport:
    """Parse one file. If the file cannot be decoded or parsed, this call fails, and the audit goes on."""
    try:
        source = Path(path).read_bytes()
        tree = ast.parse(source, path)
        found = [
            Function(node.end_lineno - node.lineno + 1, node.name, f"{path}:{node.lineno}")
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        ]
        return FileReport(
            lines=source.count(b"\n"),
            functions=len(found),
            too_long=sum(function.lines > rt.context.get("max_lines") for function in found),
            longest=nlargest(rt.context.get("top"), found),
        )
    finally:
        rt.broadcast_sync(path)


@rt.function_node
async def audit() -> Audit:
    files = await rt.call(list_files)
    await rt.broadcast(len(files))
    reports = await rt.call_batch(parse, files, limit=rt.context.get("limit"))
    good = [report for report in reports if isinstance(report, FileReport)]
    return Audit(
        files=len(files),
        unreadable=[path for path, report in zip(files, reports, strict=True) if not isinstance(report, FileReport)],
        lines=sum(report.lines for report in good),
        functions=sum(report.functions for report in good),
        too_long=sum(report.too_long for report in good),
        longest=nlargest(rt.context.get("top"), (function for report in good for function in report.longest)),
    )


def show_progress() -> tuple[AbstractContextManager[Any], Callable[[Any], None]]:
    """Return a progress bar, and the callback that moves it.

    The callback receives the number of files, and then the path of each file that is done.
    """
    try:
        from rich.progress import Progress
    except ImportError:
        return nullcontext(), lambda _: None
    bar = Progress()
    task = bar.add_task("parsing", total=None)

    def move(item: Any) -> None:
        if isinstance(item, int):
            bar.update(task, total=item)
        else:
            bar.advance(task)

    return bar, move


def print_table(result: Audit, folder: str) -> None:
    rows = [(str(f.lines), f.name, f.where.removeprefix(folder).lstrip("/\\")) for f in result.longest]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print("\n".join(f"{lines:>6}  {name:40} {where}" for lines, name, where in rows))
    else:
        table = Table("lines", "function", "where", title="The longest functions")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    print(f"{result.files} files, {result.lines} lines, {result.functions} functions")
    print(f"{result.too_long} functions too long; {len(result.unreadable)} files could not be parsed")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", default=sysconfig.get_path("stdlib"))
    parser.add_argument("--max-lines", type=int, default=80, help="a function with more lines counts as too long")
    parser.add_argument("--limit", type=int, default=8, help="how many files are parsed at once")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", SyntaxWarning)  # of the audited files

    bar, move = show_progress()
    flow = rt.Flow(
        "Audit",
        entry_point=audit,
        context={"folder": options.folder, "max_lines": options.max_lines, "limit": options.limit, "top": 10},
        broadcast_callback=move,
        timeout=600,
        logging_setting="QUIET",
        backend=options.backend,
    )
    connection = flow.connect()
    result = None
    try:
        with bar:
            result = connection.invoke()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if result is not None:
        print_table(result, options.folder)
    print(f"\n{connection.session.info}\n\nTo see it again: railtracks show {connection.session_id}")
    print(f"As a page in the browser: railtracks view {connection.session_id}")
    return 0 if result is not None else 130


if __name__ == "__main__":
    sys.exit(main())
