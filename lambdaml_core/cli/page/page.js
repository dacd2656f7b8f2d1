"use strict";
// The values under the pointer. Everything else works without a script.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);

const text = (value) => String(Number(value.toPrecision(5)));

// The point whose x is nearest; points come by rising x.
function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle; else high = middle;
  }
  return x - points[low][0] < points[high][0] - x ? points[low] : points[high];
}

// What is folded is printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));

for (const svg of document.querySelectorAll("svg.chart")) {
  const chart = JSON.parse(svg.dataset.chart), guide = svg.querySelector(".guide");
  const scale = chart.log ? Math.log : Number, back = chart.log ? Math.exp : Number;
  const [begin, end, width] = chart.at, [low, high] = chart.x.map(scale);
  const leave = () => { tip.hidden = true; guide.classList.remove("on"); };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * width;
    if (at < begin || at > end) return leave();
    const x = back(low + (at - begin) / (end - begin) * (high - low));
    const found = chart.series.map((s) => [s.name, nearest(s.points, x)]);
    const shown = found.reduce((a, b) => Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a)[1][0];
    tip.replaceChildren(...[`${chart.label} ${text(shown)}`, ...found.map(([name, p]) => `${name} ${text(p[1])}`)]
      .map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 10) + "px";
    const place = begin + (scale(shown) - low) / (high - low) * (end - begin);
    guide.setAttribute("x1", place);
    guide.setAttribute("x2", place);
    guide.classList.add("on");
  });
  svg.addEventListener("pointerleave", leave);
}
