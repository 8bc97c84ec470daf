"""The one-line diagram of a network, coloured by voltage; needs matplotlib."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks import Grid
from simulator.engines.base import Engine, Solution


def draw(engine: Engine, solution: Solution, path: Path) -> None:
    """Write the diagram to a file whose suffix chooses the format (.png, .svg, .pdf).

    Each bus has the colour of its phase that is farthest from 1 pu. The feeder runs from left
    to right in the order of its buses, not on a map.

    Raises:
        ConfigError: The file cannot be written, or has a suffix that cannot be drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    place = layout(engine.grid)
    worst: dict[str, float] = {}
    for (bus, _), v in zip(engine.nodes, abs(solution.v_pu).tolist(), strict=True):
        if v > 0.0 and abs(v - 1.0) >= abs(worst.get(bus, 1.0) - 1.0):
            worst[bus] = v
    width = max(x for x, _ in place.values()) + 1.0
    height = max(y for _, y in place.values()) + 1.0
    figure = Figure(figsize=(min(4.0 + 0.35 * width, 30.0), min(3.0 + 0.3 * height, 30.0)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles = (
        (engine.grid.lines, "0.4", 1.0),
        (engine.grid.regulators, "tab:orange", 2.5),
        (engine.grid.transformers, "tab:purple", 2.5),
    )
    for branches, colour, line_width in styles:
        for branch in branches:
            (x0, y0), (x1, y1) = place[branch.from_bus], place[branch.to_bus]
            weight = line_width * len(branch.phases) / 3.0 + 0.3
            axes.plot([x0, x0, x1], [y0, y1, y1], color=colour, linewidth=weight, zorder=1)
    buses = [b for b in place if b in worst]
    points = axes.scatter(
        [place[b][0] for b in buses],
        [place[b][1] for b in buses],
        c=[worst[b] for b in buses],
        cmap="coolwarm",
        vmin=0.93,
        vmax=1.07,
        s=18,
        zorder=2,
    )
    for bus in buses:
        axes.annotate(
            bus.split(" Bus ")[-1],
            place[bus],
            fontsize=5,
            xytext=(2, 3),
            textcoords="offset points",
        )
    figure.colorbar(points, label="voltage of the phase farthest from 1 pu")
    axes.set_title(
        f"{engine.grid.name} ({engine.name}): source {solution.source_p_mw * 1e3:.0f} kW,"
        f" losses {solution.losses_mw * 1e3:.1f} kW; orange regulators, purple transformers"
    )
    axes.set_axis_off()
    try:
        figure.savefig(path, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise ConfigError(
            [ConfigProblem("plot", str(path), f"cannot be drawn: {error}")]
        ) from error


def layout(grid: Grid) -> dict[str, tuple[float, float]]:
    """Return a place for each bus: branches from the source to the right, laterals downwards."""
    near: dict[str, list[str]] = {b.name: [] for b in grid.buses}
    for branch in (*grid.lines, *grid.transformers, *grid.regulators):
        near[branch.from_bus].append(branch.to_bus)
        near[branch.to_bus].append(branch.from_bus)
    parent: dict[str, str] = {}
    order = [grid.source_bus]
    seen = {grid.source_bus}
    frontier = deque(order)
    while frontier:
        bus = frontier.popleft()
        for other in near[bus]:
            if other not in seen:
                seen.add(other)
                parent[other] = bus
                order.append(other)
                frontier.append(other)
    children: dict[str, list[str]] = {bus: [] for bus in order}
    size = dict.fromkeys(order, 1)
    for bus in reversed(order[1:]):
        children[parent[bus]].append(bus)
        size[parent[bus]] += size[bus]
    place = {grid.source_bus: (0.0, 0.0)}
    rows = 0.0
    stack = [grid.source_bus]
    while stack:
        bus = stack.pop()
        if bus in parent:
            x, y = place[parent[bus]]
            first = bus == max(children[parent[bus]], key=lambda b: size[b])
            if not first:
                rows += 1.0
            place[bus] = (x + 1.0, y if first else rows)
        # the largest child continues the row, so it is taken first
        stack += sorted(children[bus], key=lambda b: size[b])
    return place
