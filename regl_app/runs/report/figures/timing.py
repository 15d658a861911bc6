"""Where the time and the bytes went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from regl_app.core.formats import duration, size
from regl_app.runs.report.axes import Axes
from regl_app.runs.report.figures.base import WIDTH, Absent, Figure, caption, legend
from regl_app.runs.report.figures.numbers import Numbers
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.svg import Svg, ticks

_PHASES = {
    "adapt": "var(--c4)",
    "generate": "var(--synthetic)",
    "probe_images": "var(--c6)",
    "measure": "var(--c2)",
    "train": "var(--real)",
    "probe": "var(--know)",
    "evaluate": "var(--c3)",
    "server": "var(--c5)",
    "idle": "var(--idle)",
}
_SPARE = "var(--c6)"
_MAX_BARS = 40

_Rows = Sequence[tuple[str, Mapping[str, float]]]


def per_client(run: RunData, prefix: str) -> Figure | Absent:
    """Return stacked bars: a client's seconds per phase over the whole run."""
    title = "Seconds per client"
    totals: dict[int, dict[str, float]] = {}
    for record in run.history:
        busy: dict[int, float] = {}
        for phase, seconds in record.seconds.clients.items():
            for client, spent in enumerate(seconds):
                if spent is not None:
                    table = totals.setdefault(client, {})
                    table[phase] = table.get(phase, 0.0) + spent
                    busy[client] = busy.get(client, 0.0) + spent
        for client, spent in busy.items():
            idle = max(record.seconds.wall - spent, 0.0)
            totals[client]["idle"] = totals[client].get("idle", 0.0) + idle
    if not totals:
        return Absent(title, "the clients recorded no seconds")
    worked = {
        k: sum(v for phase, v in table.items() if phase != "idle") for k, table in totals.items()
    }
    longest = sorted(sorted(worked), key=lambda k: -worked[k])
    slowest = longest[0]
    rows = [(f"client {k}", totals[k]) for k in sorted(longest[:_MAX_BARS])]
    text = caption(
        "All rounds together. Client {slowest} worked longest, {longest}; grey is waiting for "
        "others (with few cores, clients take turns).{few}",
        few=(
            f" Shown are the {_MAX_BARS} of {len(totals)} clients that worked longest."
            if len(totals) > _MAX_BARS
            else ""
        ),
        slowest=slowest,
        longest=duration(worked[slowest]),
    )
    return Figure(
        f"{prefix}seconds-client",
        title,
        text,
        _legend(rows) + _bars(rows, f"{title}, {run.name}"),
        _numbers(("client", "phase", "seconds"), [(str(k), totals[k]) for k in sorted(totals)]),
    )


def per_round(run: RunData, prefix: str) -> Figure | Absent:
    """Return stacked columns: each round's seconds per phase, mean client and server."""
    title = "Seconds per round"
    rows: list[tuple[str, dict[str, float]]] = []
    for record in run.history:
        parts = {}
        for phase, seconds in record.seconds.clients.items():
            spent = [value for value in seconds if value is not None]
            if spent:
                parts[phase] = sum(spent) / len(spent)
        if record.seconds.server:
            parts["server"] = _server_work(record.seconds.server)
        if parts:
            idle = record.seconds.wall - sum(parts.values())
            rows.append((str(record.round), parts | {"idle": max(idle, 0.0)}))
    if not rows:
        return Absent(title, "no seconds were recorded")
    shares = {
        phase: sum(parts.get(phase, 0.0) for _, parts in rows)
        for phase in dict.fromkeys(phase for _, parts in rows for phase in parts)
        if phase != "idle"
    }
    main = max(shares, key=lambda phase: shares[phase])
    lengths = [sum(parts.values()) for number, parts in rows if number != "0"]
    supplies = {"adapt", "generate"} & shares.keys()
    text = caption(
        "What an average client and the server do in each round. Most work goes into "
        "<b>{main}</b> ({share} %).{first}",
        first=(
            " The first round is the longest: adapters and images are made once and reused."
            if supplies and len(lengths) > 1 and lengths[0] == max(lengths)
            else ""
        ),
        main=main,
        share=f"{100 * shares[main] / max(sum(shares.values()), 1e-9):.0f}",
    )
    return Figure(
        f"{prefix}seconds-round",
        title,
        text,
        _legend(rows) + _columns(rows, _colour, lambda v: f"{v:.3g} s", f"{title}, {run.name}"),
        _numbers(("round", "phase", "seconds"), rows),
    )


def traffic(run: RunData, prefix: str) -> Figure | Absent:
    """Return columns of bytes down and up per round."""
    title = "Bytes per round"
    rows = [
        (str(r.round), {"down": float(r.bytes.down), "up": float(r.bytes.up)})
        for r in run.history
        if r.bytes.down or r.bytes.up
    ]
    if not rows:
        return Absent(title, "no bytes were recorded")
    css = {"down": "var(--c7)", "up": "var(--c4)"}
    total = run.summary
    text = caption(
        "Sent to the clients (down) and back (up), summed over clients: <b>{down}</b> down and "
        "<b>{up}</b> up in the whole run. Only weights and small vectors travel, never images.",
        down=size(total.bytes_down),
        up=size(total.bytes_up),
    )
    chips = legend([("down", css["down"], "box"), ("up", css["up"], "box")])
    picture = _columns(rows, css.__getitem__, lambda v: size(round(v)), f"{title}, {run.name}")
    numbers = _numbers(("round", "direction", "bytes"), rows)
    return Figure(f"{prefix}bytes", title, text, chips + picture, numbers)


def _numbers(columns: Sequence[str], rows: _Rows) -> Numbers:
    return Numbers.of(
        columns, [(name, part, value) for name, parts in rows for part, value in parts.items()]
    )


def _server_work(laps: Mapping[str, float]) -> float:
    # The server's "wait_..." laps are the clients' work seen from the other side.
    return sum(spent for name, spent in laps.items() if not name.startswith("wait"))


def _colour(phase: str) -> str:
    return _PHASES.get(phase, _SPARE)


def _ordered(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    order = list(_PHASES)
    known = sorted(parts, key=lambda p: (order.index(p) if p in order else len(order) - 1.5, p))
    return [(phase, parts[phase]) for phase in known]


def _legend(rows: _Rows) -> Markup:
    present = {phase: 1.0 for _, parts in rows for phase, v in parts.items() if v > 0}
    return legend([(phase, _colour(phase), "box") for phase, _ in _ordered(present)])


def _marks(rows: _Rows) -> list[float]:
    return ticks(0, max(sum(parts.values()) for _, parts in rows))


def _bars(rows: _Rows, label: str) -> Markup:
    tall = 22.0 if len(rows) <= 20 else 14.0
    svg = Svg(WIDTH, tall * len(rows) + 36.0)
    axes = Axes(svg, _marks(rows), left=62.0, right=14.0, top=2.0, bottom=30.0)
    axes.running(lambda mark: f"{mark:g}")
    axes.title("seconds")
    for index, (name, parts) in enumerate(rows):
        x, y = axes.left, 4 + tall * index
        svg.text(axes.left - 7, y + tall / 2 + 3, name, "tick end")
        for phase, value in _ordered(parts):
            long = axes.width * axes.share(value)
            tip = f"{name}\n{phase}: {duration(value)}"
            svg.rect((x, y, long, tall - 5), style=f"fill:{_colour(phase)}", tip=tip)
            x += long
    return svg.render(label)


def _columns(
    rows: _Rows, colour: Callable[[str], str], form: Callable[[float], str], label: str
) -> Markup:
    svg = Svg(WIDTH, 250.0)
    axes = Axes(svg, _marks(rows), left=58.0, right=8.0, top=10.0, bottom=34.0)
    axes.rising(form)
    step, every = axes.width / len(rows), max(1, -(-len(rows) // 14))
    for index, (name, parts) in enumerate(rows):
        x, y = axes.left + step * (index + 0.15), axes.bottom
        for phase, value in _ordered(parts):
            tall = axes.height * axes.share(value)
            y -= tall
            tip = f"round {name}\n{phase}: {form(value)}"
            svg.rect((x, y, step * 0.7, tall), style=f"fill:{colour(phase)}", tip=tip)
        if index % every == 0:
            svg.text(axes.left + step * (index + 0.5), axes.bottom + 17, name, "tick mid")
    axes.title("round")
    return svg.render(label)
