"""The code that the test suites of the plugin's tests have in common."""

from __future__ import annotations

NODES = """
import asyncio, sys, threading, time
import anyio, pytest
import railtracks as rt

@rt.function_node
async def child(seconds):
    await anyio.sleep(seconds)
    if seconds == 3:
        raise ValueError("three")
    return seconds

@rt.function_node
async def parent(*seconds):
    return [await rt.call(child, each) for each in seconds]

"""

QUIET = "save_state=False, logging_setting='NONE'"
