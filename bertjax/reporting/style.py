"""How a report looks, and the little script that shows values under the pointer. Everything reads without it."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b1f24; --muted: #5b6470; --edge: #d9dde3; --grid: #e6e9ee;
  --band: #e7ecf5; --train: #2367c9; --held-out: #c2540a; --baseline: #5b6470; --heat: #174a9c;
  --resumed: #1b7f4b; --setback: #b3261e; --skipped: #8a4fc4; --other: #5b6470; --best: #8a6100; --bar: #dbe7f8;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1c2026; --text: #e6e9ed; --muted: #a0a9b4; --edge: #343b44; --grid: #2a3038;
    --band: #262d37; --train: #6aa5f8; --held-out: #f29b5c; --baseline: #a0a9b4; --heat: #2f6fd6;
    --resumed: #58c98d; --setback: #ff8a80; --skipped: #c79bf2; --other: #a0a9b4; --best: #e3b64f; --bar: #24405f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 32px 0 10px; }
h3 { font-size: 1rem; margin: 18px 0 6px; }
p { margin: 6px 0; }
.state { overflow-wrap: anywhere; }
.state::before { content: ""; display: inline-block; width: .65em; height: .65em; border-radius: 50%;
  margin-right: .5em; background: var(--train); print-color-adjust: exact; }
.state.finished::before { background: var(--resumed); }
.state.stopped::before { background: var(--setback); }
progress { display: block; width: min(100%, 420px); height: 8px; margin-top: 8px; accent-color: var(--train); }
.note, .remark, small, .legend { color: var(--muted); font-size: .86rem; }
.remark { border-left: 3px solid var(--held-out); padding-left: 8px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 10px; margin: 16px 0 0; }
.tiles div, figure, details.config, .card { background: var(--card); border: 1px solid var(--edge);
  border-radius: 8px; }
.tiles div { padding: 9px 11px; }
.tiles dt { color: var(--muted); font-size: .82rem; line-height: 1.25; min-height: 2.5em; }
.tiles dd { margin: 4px 0 0; font-size: 1.25rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tiles small { display: block; white-space: normal; line-height: 1.25; font-size: .8rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 14px; }
figure { margin: 0; padding: 12px 14px 8px 12px; min-width: 0; break-inside: avoid; }
figcaption { font-size: .86rem; color: var(--muted); }
figcaption strong { color: var(--text); font-size: .95rem; }
figcaption div { display: flex; flex-wrap: wrap; gap: 2px 14px; min-height: 1.4em; }
figcaption b { color: var(--text); font-weight: 600; font-variant-numeric: tabular-nums; }
.key { display: inline-block; position: relative; width: 18px; height: 0; border-top: 3px solid; margin: 0 5px 3px 0;
  vertical-align: middle; }
.key.train { color: var(--train); } .key.held-out { color: var(--held-out); }
.key.held-out::after { content: ""; position: absolute; left: 5px; top: -6px; width: 9px; height: 9px;
  border-radius: 50%; background: currentColor; print-color-adjust: exact; }
.key.others { color: var(--held-out); opacity: .45; border-top-width: 2px; }
.key.baseline { color: var(--baseline); border-top: 2px dashed; }
.plot { position: relative; height: 210px; margin: 22px 8px 24px 46px; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot path { fill: none; vector-effect: non-scaling-stroke; }
.band.odd { fill: var(--band); } .band.even { fill: none; }
.grid path.grid { stroke: var(--grid); stroke-width: 1; }
.line { stroke-width: 1.6; stroke-linejoin: round; }
.train { stroke: var(--train); } .held-out { stroke: var(--held-out); } .baseline { stroke: var(--baseline); }
.line.held-out { stroke-width: 2; } .line.baseline { stroke-dasharray: 5 4; stroke-width: 1.4; }
.line.others { stroke: var(--held-out); stroke-width: 1; opacity: .45; }
.line.faint { stroke-width: 1; opacity: .4; }
.mean { stroke-width: 2; stroke-linejoin: round; }
.dots { stroke-width: 6; stroke-linecap: round; }
.mark { stroke-width: 1; opacity: .75; }
.mark.resumed { stroke: var(--resumed); stroke-dasharray: 6 3; } .mark.setback { stroke: var(--setback); }
.mark.skipped { stroke: var(--skipped); stroke-dasharray: 2 3; }
.mark.best { stroke: var(--best); stroke-dasharray: 8 2; }
.mark.other { stroke: var(--other); stroke-dasharray: 1 4; }
.plot span { position: absolute; font-size: 11.5px; line-height: 1; color: var(--muted); white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.plot .y { right: 100%; margin-right: 6px; transform: translateY(50%); }
.plot .x { top: 100%; margin-top: 7px; transform: translateX(-50%); }
.plot .phase { top: -17px; text-align: center; overflow: hidden; text-overflow: ellipsis; }
.plot .letter { top: 2px; transform: translateX(-50%); }
.letter { font: 700 10px/14px system-ui, sans-serif; display: inline-block; width: 14px; height: 14px;
  text-align: center; border-radius: 3px; border: 1px solid; background: var(--card); }
.plot span.letter { font-size: 10px; line-height: 12px; }
.letter.resumed { color: var(--resumed); } .letter.setback { color: var(--setback); }
.letter.best { color: var(--best); }
.letter.skipped { color: var(--skipped); } .letter.other { color: var(--other); }
.key-band { display: inline-block; width: 18px; height: 12px; border: 1px solid var(--edge); margin-right: 5px;
  vertical-align: -1px; background: var(--card); print-color-adjust: exact; }
.key-band.odd { background: var(--band); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin-bottom: 10px; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; background: var(--card); font-size: .9rem; }
th, td { border: 1px solid var(--edge); padding: 4px 9px; text-align: left; vertical-align: top; }
thead th { color: var(--muted); font-weight: 600; }
th.main { color: var(--text); }
.numbers td, .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.total { font-weight: 600; }
tbody th { font-weight: 500; }
.wide th[scope=row] { position: sticky; left: 0; background: var(--card); }
.bar { background: linear-gradient(90deg, var(--bar) var(--v), transparent var(--v)); print-color-adjust: exact; }
.heat td { text-align: center; min-width: 44px; padding: 6px 4px; font-variant-numeric: tabular-nums;
  background: color-mix(in srgb, var(--heat) var(--v), var(--card)); print-color-adjust: exact; }
.heat th { max-width: 11em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: middle; }
.heat .upright { writing-mode: vertical-rl; transform: rotate(180deg); max-width: none; max-height: 9em;
  text-align: left; padding: 6px 4px; }
.heat .corner { color: var(--muted); font-weight: 400; vertical-align: bottom; }
.heat tbody th { text-align: right; }
.heat.many { font-size: .76rem; } .heat.many td { min-width: 26px; padding: 3px 2px; }
.heat .dark { color: #fff; } .heat .right { outline: 2px solid var(--text); outline-offset: -2px; }
.heat .none { color: var(--muted); opacity: .6; }
.errors td { overflow-wrap: anywhere; min-width: 6em; } .errors .text { min-width: 15em; }
.errors bdi { white-space: pre-wrap; display: block; }
dl { margin: 6px 0; }
dl:not(.tiles) > div { display: flex; gap: 12px; padding: 2px 0; border-bottom: 1px solid var(--grid); }
dl:not(.tiles) dt { flex: 0 0 min(42%, 260px); color: var(--muted); overflow-wrap: anywhere; }
dl:not(.tiles) dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
details.config { padding: 8px 14px; } summary { cursor: pointer; font-weight: 600; padding: 3px 0; }
details details { margin: 4px 0 4px 14px; }
.tip { position: absolute; z-index: 1; pointer-events: none; background: var(--text); color: var(--page);
  border-radius: 5px; padding: 5px 8px; font-size: 12px; line-height: 1.4; white-space: pre; top: 8px; }
.cursor { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--muted); pointer-events: none; }
[hidden] { display: none; }
@media (max-width: 520px) {
  main { padding: 14px 10px 36px; } .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tiles dd { font-size: 1.15rem; }
  .errors, .errors tbody, .errors tr, .errors td { display: block; } .errors thead { display: none; }
  .errors tr { border: 1px solid var(--edge); padding: 4px 8px; margin-bottom: 8px; }
  .errors td { border: 0; padding: 2px 0; text-align: left; white-space: normal; }
  .errors td::before { content: attr(data-name); color: var(--muted); font-size: .8rem; display: block; }
  table.errors { background: none; } .errors tr { background: var(--card); }
  .plot { height: 180px; margin-left: 42px; } th, td { padding: 4px 6px; }
}
@media print {
  body { background: none; font-size: 11pt; } main { max-width: none; padding: 0; } .plot { height: 160px; }
  .grid { grid-template-columns: 1fr 1fr; } .wide { overflow: visible; } tr, .tiles div { break-inside: avoid; }
  h2 { break-after: avoid; } details::details-content { display: block; content-visibility: visible; height: auto; }
}
"""

SCRIPT = """
"use strict";
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg"), data = svg.dataset;
  const [low, high] = data.range.split(" ").map(Number), last = Number(data.last);
  const value = y => { const at = 1 - y / 1000;
    return data.log ? low * Math.pow(high / low, at) : low + at * (high - low); };
  const words = v => data.percent ? (100 * v).toFixed(2) + " %" :
    Math.abs(v) >= 1e4 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)));
  let lines = null, tip = null, cursor = null;
  const read = () => [...svg.querySelectorAll("path.line:not(.others)")].map(path => {
    const flat = path.getAttribute("d").split(/[ML ]/).filter(Boolean).map(Number);
    return { name: path.dataset.name, xs: flat.filter((_, i) => i % 2 === 0), ys: flat.filter((_, i) => i % 2) };
  });
  const nearest = (xs, x) => { let a = 0, b = xs.length - 1;
    while (b - a > 1) { const m = (a + b) >> 1; if (xs[m] <= x) a = m; else b = m; }
    return x - xs[a] <= xs[b] - x ? a : b; };
  const hide = () => { if (tip) { tip.hidden = cursor.hidden = true; } };
  plot.addEventListener("pointermove", event => {
    lines = lines || read();
    if (!tip) {
      tip = plot.appendChild(document.createElement("div")); tip.className = "tip";
      cursor = plot.appendChild(document.createElement("div")); cursor.className = "cursor";
    }
    const box = svg.getBoundingClientRect(), x = 1000 * (event.clientX - box.left) / box.width;
    if (x < -10 || x > 1010) { hide(); return; }
    const best = lines.map(line => line.xs[nearest(line.xs, x)])
      .reduce((a, b) => Math.abs(a - x) <= Math.abs(b - x) ? a : b);
    const text = lines.map(line => line.name + "  " + words(value(line.ys[nearest(line.xs, best)])));
    tip.textContent = ["step " + Math.round(best / 1000 * last).toLocaleString("en"), ...text].join("\\n");
    tip.hidden = cursor.hidden = false;
    cursor.style.left = best / 10 + "%";
    tip.style.left = best < 500 ? "calc(" + best / 10 + "% + 8px)" : "auto";
    tip.style.right = best < 500 ? "auto" : "calc(" + (100 - best / 10) + "% + 8px)";
  });
  plot.addEventListener("pointerleave", hide);
}
"""
