"use strict";
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
// Shows the values of a chart's lines under the pointer. The lines are read from the SVG's paths.
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg"), data = plot.dataset;
  const [left, top, width, height] = data.box.split(" ").map(Number), units = svg.viewBox.baseVal.width;
  const [low, high] = data.range.split(" ").map(Number), names = JSON.parse(data.names);
  const step = x => (x - left) / width * Number(data.last);
  const value = y => { const at = 1 - (y - top) / height;
    return data.scale === "log" ? low * Math.pow(high / low, at) : low + at * (high - low); };
  const words = v => data.unit === "%" ? (100 * v).toFixed(2) + " %" :
    Math.abs(v) >= 1e4 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)));
  const read = () => [...svg.querySelectorAll("g.line > path")].map((path, index) => {
    const flat = path.getAttribute("d").split(/[ML\s]+/).filter(Boolean).map(Number);
    return { name: names[index], xs: flat.filter((_, i) => i % 2 === 0), ys: flat.filter((_, i) => i % 2) };
  });
  const nearest = (xs, x) => { let a = 0, b = xs.length - 1;
    while (b - a > 1) { const m = (a + b) >> 1; if (xs[m] <= x) a = m; else b = m; }
    return x - xs[a] <= xs[b] - x ? a : b; };
  let lines = null, tip = null, cursor = null;
  const hide = () => { if (tip) { tip.hidden = cursor.hidden = true; } };
  plot.addEventListener("pointermove", event => {
    lines = lines || read();
    if (!tip) {
      tip = plot.appendChild(document.createElement("div")); tip.className = "tip";
      cursor = plot.appendChild(document.createElement("div")); cursor.className = "cursor";
    }
    const box = svg.getBoundingClientRect(), x = units * (event.clientX - box.left) / box.width;
    if (x < left - 4 || x > left + width + 4) { hide(); return; }
    const best = lines.map(line => line.xs[nearest(line.xs, x)])
      .reduce((a, b) => Math.abs(a - x) <= Math.abs(b - x) ? a : b);
    const text = lines.map(line => line.name + "  " + words(value(line.ys[nearest(line.xs, best)])));
    tip.textContent = ["step " + Math.round(step(best)).toLocaleString("en"), ...text].join("\n");
    tip.hidden = cursor.hidden = false;
    const share = 100 * best / units, before = share < 50;
    cursor.style.left = share + "%";
    tip.style.left = before ? "calc(" + share + "% + 8px)" : "auto";
    tip.style.right = before ? "auto" : "calc(" + (100 - share) + "% + 8px)";
  });
  plot.addEventListener("pointerleave", hide);
}
