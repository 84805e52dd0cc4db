"""Test flows under virtual time, with chosen interleavings and injected faults.

``simulate`` runs a flow once, the same each time, and ``check`` asserts what must hold for the outcome. Hypothesis can
run a flow in many ways (``railtracks.testing.strategies``), and shrinks a failure to the shortest story that shows it.

For agents there are models that follow a script, fail as providers do (``faults.Model``), or replay what was recorded
(``Cassette``), a suite for models (``conformance``), and tables that compare agents (``evaluation``).
"""

from railtracks.testing import conformance, evaluation, faults, invariants, trees
from railtracks.testing._answers import Answer, ScriptError, answer, tool_call
from railtracks.testing._cassettes._exchanges import CassetteError
from railtracks.testing._compare import Comparison, Difference, compare
from railtracks.testing._explore import Exploration, explore
from railtracks.testing._replay import replay
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._simulation._marks import mark
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._restarts import resume, simulate_restarts
from railtracks.testing._simulation._simulate import simulate
from railtracks.testing._sweep import sweep
from railtracks.testing._sweeping import Sweep
from railtracks.testing._trace import TraceEvent
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._run import run
from railtracks.testing._virtual_time._stuck_errors import ClockHeldError, Deadlock, EndlessRun, Livelock
from railtracks.testing.cassettes import Cassette
from railtracks.testing.faults import Fault
from railtracks.testing.invariants import Violation, check, invariant
from railtracks.testing.linearizability import linearizable, operation
from railtracks.testing.models import ScriptedModel

__all__ = [
    "Answer",
    "Cassette",
    "CassetteError",
    "ClockHeldError",
    "Comparison",
    "Deadlock",
    "Difference",
    "EndlessRun",
    "Exploration",
    "Fault",
    "Livelock",
    "Outcome",
    "ProcessKilled",
    "ScriptError",
    "ScriptedModel",
    "Sweep",
    "TraceEvent",
    "Violation",
    "VirtualClock",
    "answer",
    "check",
    "compare",
    "conformance",
    "evaluation",
    "explore",
    "faults",
    "invariant",
    "invariants",
    "linearizable",
    "mark",
    "operation",
    "replay",
    "resume",
    "run",
    "simulate",
    "simulate_restarts",
    "sweep",
    "tool_call",
    "trees",
]
