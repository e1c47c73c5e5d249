"""How the report looks."""

from __future__ import annotations

from rlco.evals.outcome import Ending

ENDING_COLOURS = {
    Ending.SUCCESS: "#1f5fa8",
    Ending.TIMED_OUT: "#6aa5d8",
    Ending.DROPPED: "#e8b93a",
    Ending.GRASPED: "#e08a1e",
    Ending.REACHED: "#c2571a",
    Ending.WRONG_OBJECT: "#8e3b78",
    Ending.NEVER_REACHED: "#6b7280",
    Ending.UNSORTED: "#b08968",
    Ending.LOST: "#d1d5db",
}
"""From blue (done) over yellow to red-brown (hardly begun): neighbours differ in lightness for every eye."""

CSS = """
:root { color-scheme: light; --ink: #1f2933; --soft: #616e7c; --line: #e4e7eb; --accent: #2563eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 8px; }
h2 { font-size: 17px; margin: 0 0 14px; }
.headline { font-size: 18px; margin: 0 0 16px; }
.note { background: #fff8e6; border-left: 4px solid #f0b429; padding: 10px 14px; margin: 0 0 24px; font-size: 14px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 20px 22px; margin: 0 0 20px;
  overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
table.narrow { width: auto; }
th, td { text-align: left; padding: 8px 18px 8px 0; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { white-space: nowrap; color: var(--soft); font-weight: 500; font-size: 13px; padding: 2px 18px 4px 0; }
thead tr:not(:last-child) th { border-bottom: none; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr:last-child th, tbody tr:last-child td { border-bottom: none; }
tr.ours th { font-weight: 700; }
.rates td { min-width: 150px; }
.rates td:last-child { min-width: 0; }
.small { color: var(--soft); font-size: 13px; }
td.small { white-space: nowrap; }
.caption { color: var(--soft); font-size: 13px; margin: 12px 0 0; max-width: 90ch; }
.bar { display: block; position: relative; height: 8px; background: #eef1f4; border-radius: 4px; margin-top: 5px;
  overflow: hidden; }
.bar i { position: absolute; display: block; }
.fill { left: 0; top: 0; height: 8px; background: #9db2ce; }
tr.ours .fill { background: var(--accent); }
.whisker { top: 3px; height: 2px; background: rgba(31, 41, 51, .75); }
.better { color: #1a7f42; } .worse { color: #b42334; } .unsure { font-weight: 500; }
.wide { width: 34%; min-width: 180px; }
.stack { display: flex; height: 22px; border-radius: 4px; overflow: hidden; }
.stack i { font-style: normal; color: #fff; text-shadow: 0 0 3px rgba(31, 41, 51, .55);
  font-size: 12px; line-height: 22px; text-align: center; }
.keys { margin: 12px 0 0; }
.key { font-size: 13px; color: var(--soft); margin-right: 18px; white-space: nowrap; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.plot { width: 100%; height: auto; display: block; }
.films { display: grid; gap: 18px; }
figure { margin: 0; }
video { width: 100%; height: auto; display: block; border: 1px solid var(--line); border-radius: 4px; }
figcaption { font-size: 13px; color: var(--soft); margin-top: 4px; }
details { margin-bottom: 6px; } summary { cursor: pointer; color: var(--soft); }
pre { font-size: 12.5px; background: #f5f7fa; padding: 12px; border-radius: 6px; overflow-x: auto; margin: 8px 0 0; }
@media print { body { background: #fff; } section { break-inside: avoid; border: none; padding: 0; } }
"""
