// The overview's moving parts: the market clock, the polling's manners and the equity chart.
// Cards are swapped by htmx; the chart is built once and only told about new points.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);

  // --- The clock goes on between two answers, at the market's own speed ---------------------
  const clockText = new Intl.DateTimeFormat("en-GB", {
    weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
    timeZone: "Asia/Kolkata",
  });
  let clockShownAt = performance.now();
  const tick = () => {
    const clock = byId("clock");
    const speed = clock ? Number(clock.dataset.speed) : 0;
    if (!speed || document.hidden) return;
    const passed = ((performance.now() - clockShownAt) / 1000) * speed;
    const parts = {};
    const at = new Date((Number(clock.dataset.at) + passed) * 1000);
    for (const part of clockText.formatToParts(at)) parts[part.type] = part.value;
    const text = `${parts.weekday} ${parts.day} ${parts.month}, ${parts.hour}:${parts.minute}`;
    if (clock.textContent !== text) clock.textContent = text;
  };
  setInterval(tick, 1000);

  // --- Polling: none while nobody looks, none of what did not change, and never silently old --
  const poll = byId("poll");
  const stale = byId("stale");
  let answeredAt = new Date();
  poll.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) htmx.trigger(poll, "refresh");
  });
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    // An unchanged card keeps its selection, its focus and what the reader points at.
    if (target.innerHTML === fragment.innerHTML) event.detail.shouldSwap = false;
  });
  const speak = () => {
    // Only the sentence itself is read out, and only when it changes; the card around it ticks.
    const sentence = document.querySelector("#verdict strong").textContent;
    const spoken = byId("spoken");
    if (spoken.textContent !== sentence) spoken.textContent = sentence;
  };
  const missed = () => {
    const since = answeredAt.toLocaleTimeString("en-GB", { timeZone: "Asia/Kolkata" });
    byId("stale-since").textContent = `${since} IST`;
    stale.hidden = false;
  };
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    poll.addEventListener(name, missed);
  }
  poll.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.successful) return;
    answeredAt = new Date();
    clockShownAt = performance.now();
    stale.hidden = true;
    speak();
    drawCurve();
  });

  // --- The chart ---------------------------------------------------------------------------
  const plot = byId("plot");
  const ranges = byId("ranges");
  let chart, equity, drawdown, shown, range = "day";

  const rupees = (value) => {
    const size = Math.abs(value);
    const [unit, suffix] = size >= 1e7 ? [1e7, " Cr"] : size >= 1e5 ? [1e5, " L"]
      : size >= 1e3 ? [1e3, "k"] : [1, ""];
    const digits = unit === 1 ? 0 : size / unit < 10 ? 2 : 1;
    return `${value < 0 ? "\u2212" : ""}\u20b9${(size / unit).toFixed(digits)}${suffix}`;
  };
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const colour = () => {
    const line = token("--line");
    chart.applyOptions({
      layout: { background: { color: "transparent" }, textColor: token("--ink-2"),
        panes: { separatorColor: line, separatorHoverColor: line } },
      grid: { vertLines: { visible: false }, horzLines: { color: line } },
      crosshair: { vertLine: { labelBackgroundColor: token("--ink-2") },
        horzLine: { labelBackgroundColor: token("--ink-2") } },
    });
    const accent = token("--accent");
    equity.applyOptions({ lineColor: accent, topColor: `${accent}40`, bottomColor: `${accent}05` });
    const loss = token("--loss");
    drawdown.applyOptions({ lineColor: loss, topColor: `${loss}08`, bottomColor: `${loss}38` });
  };

  // Without it the axis of the drawdown would hide how far below the peak its highest point is.
  const fromZero = (original) => {
    const found = original();
    if (found?.priceRange) found.priceRange.maxValue = 0;
    return found;
  };

  const build = () => {
    const { createChart, AreaSeries } = LightweightCharts;
    const format = { type: "custom", minMove: 1, formatter: rupees };
    const common = { priceFormat: format, lineWidth: 2, priceLineVisible: false,
      crosshairMarkerRadius: 3 };
    chart = createChart(plot, {
      autoSize: true,
      // The library's own logo needs an inline style; the page's foot names it instead.
      layout: { attributionLogo: false, fontFamily: getComputedStyle(document.body).fontFamily,
        fontSize: 11, panes: { enableResize: false } },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.1, bottom: 0.1 } },
      timeScale: { borderVisible: false, timeVisible: true, secondsVisible: false,
        fixLeftEdge: true, fixRightEdge: true },
      localization: { locale: "en-IN" },
      handleScroll: { vertTouchDrag: false, mouseWheel: false },
      handleScale: { mouseWheel: false, pinch: false },
    });
    equity = chart.addSeries(AreaSeries, common);
    drawdown = chart.addSeries(AreaSeries, { ...common, lineWidth: 1, invertFilledArea: true,
      lastValueVisible: false, autoscaleInfoProvider: fromZero }, 1);
    chart.panes()[1].setStretchFactor(0.22);
    chart.panes()[0].setStretchFactor(0.78);
    drawdown.priceScale().applyOptions({ scaleMargins: { top: 0.16, bottom: 0.12 } });
    colour();
  };

  const belowPeak = ({ peak, points }) => points.map(([time, value]) => {
    peak = Math.max(peak, value);
    return { time, value: value - peak };
  });

  const drawCurve = () => {
    if (!plot || !window.LightweightCharts) return;
    const text = byId("curve").textContent;
    if (shown === range + text) return;
    shown = range + text;
    const curve = JSON.parse(text);
    const { points } = curve[range];
    byId("plot-empty").hidden = points.length > 1;
    plot.hidden = points.length < 2;
    // Ranges that would all show the same are no choice.
    ranges.hidden = curve.week.points.length <= curve.day.points.length;
    if (plot.hidden) return;
    if (!chart) build();
    equity.setData(points.map(([time, value]) => ({ time, value })));
    drawdown.setData(belowPeak(curve[range]));
    chart.timeScale().fitContent();
  };

  if (ranges) {
    ranges.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      range = button.dataset.range;
      for (const each of ranges.children) {
        each.setAttribute("aria-pressed", String(each === button));
      }
      drawCurve();
    });
  }
  document.addEventListener("themechange", () => chart && colour());
  drawCurve();
})();
