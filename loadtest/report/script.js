for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const data = JSON.parse(figure.dataset.chart);
  const svg = figure.querySelector("svg"), cross = figure.querySelector(".cross"), tip = figure.querySelector(".tip");
  const hide = () => { tip.hidden = true; cross.style.visibility = "hidden"; };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const at = (event.clientX - box.left) * scale;
    let best = 0;
    data.xs.forEach((x, i) => { if (Math.abs(x - at) < Math.abs(data.xs[best] - at)) best = i; });
    cross.setAttribute("x1", data.xs[best]);
    cross.setAttribute("x2", data.xs[best]);
    cross.style.visibility = "visible";
    const rows = data.lines.filter((line) => line.values[best] !== null)
      .map((line) => `${line.name}  ${Number(line.values[best].toPrecision(4))} ${data.unit}`);
    tip.textContent = [data.labels[best], ...rows].join("\n");
    tip.hidden = false;
    const left = data.xs[best] / scale + svg.offsetLeft + 14;
    tip.style.left = `${left + tip.offsetWidth > figure.clientWidth ? left - tip.offsetWidth - 28 : left}px`;
    tip.style.top = `${svg.offsetTop + 20}px`;
  });
  svg.addEventListener("pointerleave", hide);
}
