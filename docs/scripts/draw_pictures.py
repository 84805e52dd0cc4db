"""Draw the pictures of the concepts and components: ``python docs/scripts/draw_pictures.py`` writes them.

They are legible on light and dark pages: each has its own background, whose colours follow the reader's preference.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "pictures"
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 12px; fill: #57606a; }
.head { font-weight: 600; }
.code { font: 13px ui-monospace, monospace; }
.ground { fill: #fff; stroke: #d0d7de; }
.frame { fill: #f6f8fa; stroke: #8c959f; }
.call { fill: #ddf4ff; stroke: #0969da; }
.done { fill: #dafbe1; stroke: #1a7f37; }
.failed { fill: #ffebe9; stroke: #cf222e; }
.cancelled { fill: #fff8c5; stroke: #9a6700; stroke-dasharray: 5 3; }
.replayed { fill: none; stroke: #1a7f37; stroke-dasharray: 2 3; }
.plain { fill: #eaeef2; stroke: #8c959f; }
.line { fill: none; stroke: #57606a; stroke-width: 1.5; }
.loud { fill: none; stroke: #cf222e; stroke-width: 2; }
.tip { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b3; }
  .ground { fill: #0d1117; stroke: #30363d; }
  .frame { fill: #161b22; stroke: #6e7681; }
  .call { fill: #0c2d6b; stroke: #58a6ff; }
  .done { fill: #0f3d1f; stroke: #3fb950; }
  .failed { fill: #5c1a1b; stroke: #f85149; }
  .cancelled { fill: #4b3500; stroke: #d29922; }
  .replayed { stroke: #3fb950; }
  .plain { fill: #21262d; stroke: #6e7681; }
  .line { stroke: #9da7b3; }
  .loud { stroke: #f85149; }
  .tip { fill: #9da7b3; }
}
"""


class Picture:
    """A drawing of boxes, lines and texts; lengths in pixels.

    Args:
        title: What it shows, for those who cannot see it.
        width: How wide it is.
        height: How high it is.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        marker = 'id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
        tip = '<path class="tip" d="M0 0 8 4 0 8z"/>'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
            f'<title id="title">{escape(title)}</title>',
            f"<style>{STYLE}</style>",
            f"<defs><marker {marker}>{tip}</marker></defs>",
            f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        ]

    def box(self, x: float, y: float, width: float, height: float, text: str = "", kind: str = "call") -> None:
        """Draw a box with lines of text in its middle."""
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        lines = text.split("\n") if text else []
        top = y + height / 2 + 5 - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + 18 * number, line, anchor="middle")

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Write a line of text; ``code`` between backticks alone makes all of it code."""
        if text.startswith("`"):
            kind, text = f"{kind} code".strip(), text.strip("`")
        shown = f' class="{kind}"' if kind else ""
        self._parts.append(f'<text{shown} x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, *points: tuple[float, float], arrow: bool = True, kind: str = "line") -> None:
        """Draw a line from point to point, with an arrow at its end."""
        path = " ".join(f"{x} {y}" for x, y in points)
        tip = ' marker-end="url(#tip)"' if arrow else ""
        self._parts.append(f'<path class="{kind}" d="M{path}"{tip}/>')

    def svg(self) -> str:
        """Return the file."""
        return "\n".join([*self._parts, "</svg>", ""])


def structured_concurrency() -> Picture:
    """Tasks that outlive their function, and calls that end in their session."""
    picture = Picture(
        "Tasks that outlive the function that started them, and calls that end in their session", 760, 270
    )
    picture.text(20, 30, "Tasks without structure", "head")
    picture.box(20, 48, 210, 150, "", "frame")
    picture.text(30, 68, "`main()`")
    for y, end in ((90, 330), (125, 215), (160, 345)):
        picture.box(40, y, end - 40, 24, "task", "call" if end < 230 else "failed")
    picture.line((230, 40), (230, 206), arrow=False)
    picture.text(230, 224, "main() has returned", "small", "middle")
    picture.text(20, 250, "Two tasks go on, and nobody sees their errors.", "small")
    picture.text(400, 30, "Calls in a session", "head")
    picture.box(400, 48, 330, 150, "", "frame")
    picture.text(410, 68, "`async with rt.Session():`")
    picture.box(420, 80, 280, 66, "", "call")
    picture.text(430, 98, "call")
    picture.box(440, 108, 110, 26, "nested call", "done")
    picture.box(562, 108, 126, 26, "nested call", "done")
    picture.box(420, 156, 180, 26, "call beside the body", "done")
    picture.line((730, 40), (730, 206), arrow=False)
    picture.text(738, 224, "the session has ended", "small", "end")
    picture.text(400, 250, "Each call ends within the one that made it.", "small")
    return picture


def session_life() -> Picture:
    """The steps of a session from construction to the state file."""
    picture = Picture("The life of a session: construct, enter, run, then wait or cancel, deliver, save, end", 760, 300)
    top = (
        ("Construct", "settle the options"),
        ("Enter", "acquire the run,\nopen the journal"),
        ("Run", "body and calls"),
    )
    for number, (name, does) in enumerate(top):
        x = 20 + 180 * number
        picture.box(x, 40, 150, 44, name, "call")
        for row, part in enumerate(does.split("\n")):
            picture.text(x + 75, 104 + 16 * row, part, "small", "middle")
        if number:
            picture.line((x - 30, 62), (x - 2, 62))
    picture.line((530, 62), (590, 62), (590, 50), (608, 50))
    picture.line((590, 62), (590, 106), (608, 106))
    picture.box(610, 28, 130, 44, "Wait\nfor calls", "done")
    picture.text(675, 22, "the body returned", "small", "middle")
    picture.box(610, 84, 130, 44, "Cancel calls", "cancelled")
    picture.text(740, 144, "it raised, or was cancelled", "small", "end")
    picture.line((675, 152), (675, 190), arrow=False)
    bottom = (
        ("Deliver events", "at most 10 s"),
        ("Save the state", "at most 60 s"),
        ("Release the run", "journal, lock, logs"),
        ("End", "result or exception"),
    )
    picture.line((675, 190), (675, 214), (632, 214))
    for number, (name, note) in enumerate(bottom):
        x = 490 - 158 * number
        picture.box(x, 192, 140, 44, name, "plain" if number < 3 else "done")
        picture.text(x + 70, 254, note, "small", "middle")
        if number:
            picture.line((x + 158, 214), (x + 142, 214))
    picture.text(
        490 + 140,
        280,
        "These steps are shielded from cancellation; each runs although the one before failed.",
        "small",
        "end",
    )
    return picture


def cancellation() -> Picture:
    """Which calls four causes cancel, each on the same tree."""
    picture = Picture(
        "What a timeout, the timeout of a node, end_on_error and Ctrl-C cancel in the same session", 760, 420
    )
    cases = (
        (
            "timeout of the session",
            "one top-level call and all below it",
            {"A": "failed", "B": "cancelled", "C": "cancelled"},
        ),
        ("timeout of node B", "B and all below it; A may go on", {"B": "failed", "C": "cancelled"}),
        (
            "end_on_error, after C failed",
            "all calls; the body goes on",
            {"C": "failed", "A": "cancelled", "B": "cancelled", "D": "cancelled"},
        ),
        ("Ctrl-C", "the body and all calls", dict.fromkeys(("body", "A", "B", "C", "D"), "cancelled")),
    )
    for number, (cause, effect, kinds) in enumerate(cases):
        x, y = 20 + 375 * (number % 2), 20 + 190 * (number // 2)
        picture.box(x, y, 345, 130, "", "frame")
        picture.box(x + 14, y + 14, 70, 30, "body", kinds.get("body", "call"))
        picture.box(x + 110, y + 14, 50, 30, "A", kinds.get("A", "call"))
        picture.box(x + 190, y + 14, 50, 30, "B", kinds.get("B", "call"))
        picture.box(x + 270, y + 14, 50, 30, "C", kinds.get("C", "call"))
        picture.box(x + 110, y + 80, 50, 30, "D", kinds.get("D", "call"))
        for left in (84, 160, 240):
            picture.line((x + left, y + 29), (x + left + (24 if left == 84 else 28), y + 29))
        picture.line((x + 49, y + 44), (x + 49, y + 95), (x + 108, y + 95))
        picture.text(x, y + 150, cause, "head")
        picture.text(x, y + 168, effect, "small")
    for x, kind, name in (
        (20, "call", "goes on"),
        (120, "failed", "raises the error"),
        (265, "cancelled", "is cancelled, cleans up, and ends"),
    ):
        picture.box(x, 394, 14, 14, "", kind)
        picture.text(x + 20, 406, name, "small")
    return picture


def durability() -> Picture:
    """A run that is killed and goes on in another process."""
    picture = Picture("A process is killed; the next one replays what had completed and runs the rest", 760, 290)
    picture.text(20, 38, "first process", "head")
    for x, width, name, kind in ((150, 110, "A", "done"), (270, 110, "B", "done"), (390, 80, "C", "call")):
        picture.box(x, 20, width, 30, name, kind)
    picture.line((480, 10), (480, 60), arrow=False, kind="loud")
    picture.text(490, 40, "kill -9 while C runs")
    picture.box(150, 110, 460, 50, "", "plain")
    picture.text(20, 140, "journal", "head")
    for x, name in ((162, "A = 1"), (282, "B = 2"), (402, "C began")):
        picture.text(x, 140, f"`{name}`")
    for x in (205, 325, 430):
        picture.line((x, 50), (x, 108))
    picture.text(20, 238, "second process", "head")
    for x, width, name, kind in (
        (150, 110, "A replayed", "replayed"),
        (270, 110, "B replayed", "replayed"),
        (390, 110, "C again", "done"),
        (510, 100, "D", "done"),
    ):
        picture.box(x, 220, width, 30, name, kind)
    for x in (205, 325):
        picture.line((x, 160), (x, 218))
    picture.text(
        150,
        276,
        "The recorded results come at once. C may have done its work already, so it must be idempotent.",
        "small",
    )
    return picture


def records() -> Picture:
    """What becomes of the beginning and the end of a call."""
    picture = Picture("Each call changes its record; journal, log, spans and subscribers get it from there", 760, 270)
    picture.box(20, 96, 130, 54, "a call begins\nor ends", "call")
    picture.box(210, 86, 150, 74, "its record\n(CallRecord)", "done")
    picture.line((150, 123), (208, 123))
    places = (
        (24, "session.info", "a snapshot, at any time", "done"),
        (80, "journal", "what a killed run goes on from", "done"),
        (136, "log and spans", "failures, a summary, traces", "plain"),
        (192, "subscribers", "progress, your own code", "plain"),
    )
    for y, name, use, kind in places:
        picture.line((360, 123), (390, 123), (390, y + 18), (428, y + 18))
        picture.box(430, y, 120, 36, name, kind)
        picture.text(562, y + 23, use, "small")
    picture.line((285, 160), (285, 198))
    picture.box(210, 200, 150, 36, "state file", "done")
    picture.text(285, 254, "written at the end", "small", "middle")
    picture.text(20, 172, "in order, before", "small")
    picture.text(20, 188, "the call goes on", "small")
    return picture


def component_session() -> Picture:
    """What a session is made of, and what it owns."""
    picture = Picture(
        "Session, its layers, the Coordinator that runs its calls, and the run that it is stored as", 760, 300
    )
    picture.box(20, 20, 190, 260, "", "frame")
    picture.text(30, 42, "railtracks._session", "small")
    layers = (
        ("Session", "options, for users"),
        ("SessionLife", "enter, leave, end"),
        ("SessionStorage", "acquire, save"),
    )
    for number, (name, does) in enumerate(layers):
        y = 56 + 74 * number
        picture.box(36, y, 158, 36, name, "call")
        picture.text(115, y + 52, does, "small", "middle")
    picture.box(270, 20, 220, 170, "", "frame")
    picture.text(280, 42, "Coordinator: runs calls", "small")
    parts = (("RTState", "records"), ("RTPublisher", "events"), ("CallScopes", "cancellation"), ("strategies", "where"))
    for number, (name, does) in enumerate(parts):
        picture.box(286, 52 + 33 * number, 104, 27, name, "done")
        picture.text(400, 70 + 33 * number, does, "small")
    picture.box(270, 214, 220, 60, "", "frame")
    picture.box(286, 226, 188, 36, "StoredRun", "done")
    picture.box(560, 30, 180, 44, "SessionNursery\nowns all tasks", "call")
    picture.box(560, 120, 180, 44, "Lifecycle\nwhat a phase allows", "plain")
    picture.box(560, 204, 180, 30, "journal", "plain")
    picture.box(560, 250, 180, 30, "state file", "plain")
    picture.line((194, 74), (268, 74))
    picture.line((194, 222), (230, 222), (230, 244), (284, 244))
    picture.line((490, 52), (558, 52))
    picture.line((490, 142), (558, 142))
    picture.line((474, 244), (520, 244), (520, 219), (558, 219))
    picture.line((474, 244), (520, 244), (520, 265), (558, 265))
    return picture


def component_task_execution() -> Picture:
    """The way of a call, from rt.call to the end of its record."""
    picture = Picture("A call is resolved, recorded, replayed or run by a strategy, and its end is recorded", 760, 280)
    steps = (
        ("rt.call", "resolve the node,\nfind the caller"),
        ("enter", "a scope, if it enters\na task"),
        ("record", "CallRecord,\njournal"),
        ("policies", "limit, cache,\ntimeout, retries"),
    )
    for number, (name, does) in enumerate(steps):
        x = 20 + 150 * number
        picture.box(x, 30, 118, 40, name, "call" if name != "record" else "done")
        for row, part in enumerate(does.split("\n")):
            picture.text(x + 59, 90 + 16 * row, part, "small", "middle")
        if number:
            picture.line((x - 32, 50), (x - 2, 50))
    picture.line((588, 50), (622, 50))
    picture.box(624, 30, 116, 40, "strategy", "call")
    picture.line((682, 70), (682, 128))
    for number, place in enumerate(("caller's task", "worker thread", "worker process")):
        picture.box(624, 130 + 38 * number, 116, 30, place, "plain")
    picture.line((624, 183), (442, 183))
    picture.box(322, 160, 118, 46, "end\nof the record", "done")
    picture.line((379, 122), (379, 158), kind="line")
    picture.text(388, 146, "replayed: the node does not run", "small")
    picture.line((322, 183), (142, 183))
    picture.box(20, 160, 120, 46, "result or\nexception", "done")
    picture.line((381, 206), (381, 232))
    picture.text(381, 250, "log, subscribers, spans", "small", "middle")
    return picture


def component_pubsub() -> Picture:
    """The way of an event, from a call to the callbacks of subscribers."""
    picture = Picture("Events pass from calls through the publisher to bounded channels, pumps and callbacks", 760, 250)
    for number, name in enumerate(("calls", "broadcasts", "text of agents")):
        picture.box(20, 40 + 62 * number, 130, 36, name, "call")
        picture.line((150, 58 + 62 * number), (180, 58 + 62 * number), (180, 120), (208, 120))
    picture.box(210, 90, 130, 60, "RTPublisher\n.publish()", "done")
    picture.text(275, 170, "never waits", "small", "middle")
    for number, (policy, callback) in enumerate((("wait", "broadcast_callback"), ("drop_oldest", "your callback"))):
        y = 50 + 104 * number
        picture.line((340, 120), (366, 120), (366, y + 18), (388, y + 18))
        for slot in range(5):
            picture.box(390 + 22 * slot, y, 20, 36, "", "done" if slot > 1 + number else "plain")
        picture.text(444, y + 54, f"channel, {policy}", "small", "middle")
        picture.line((500, y + 18), (518, y + 18))
        picture.box(520, y, 60, 36, "pump", "call")
        picture.line((580, y + 18), (598, y + 18))
        picture.box(600, y, 148, 36, callback, "plain")
    picture.text(563, 236, "pumps are tasks in the nursery of the session", "small", "middle")
    return picture


PICTURES = {
    "structured-concurrency.svg": structured_concurrency,
    "session-life.svg": session_life,
    "cancellation.svg": cancellation,
    "durability.svg": durability,
    "records.svg": records,
    "component-session.svg": component_session,
    "component-task-execution.svg": component_task_execution,
    "component-pubsub.svg": component_pubsub,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw().svg(), encoding="utf-8")
