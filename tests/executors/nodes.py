"""Functions that workers import."""

import os
import signal
import sys
import time

import anyio


def add(a, b):
    return a + b


async def async_add(a, b):
    await anyio.sleep(0)
    return a + b


class Picky(Exception):
    def __init__(self, number):
        super().__init__(f"bad {number}")
        self.number = number


def fail_picky(number):
    raise Picky(number)


def exit_at_once():
    os._exit(3)


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_long():
    time.sleep(600)


def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.system("echo from a child; echo child stderr >&2")
    return os.getpid()
