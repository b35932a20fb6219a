// What the pages need of a browser: links and forms marked data-go ask the server over the open connection instead of
// loading a page; a span of the histogram can be drawn. Without this script each of them is a plain link or form.
"use strict";
(() => {
  const bar = document.getElementById("bar");
  let waiting = 0;

  function model(name) {
    const open = window.Bokeh && Bokeh.documents[0];
    return open ? open.get_model_by_name(name) : null;
  }

  function busy(now) {
    bar.hidden = !now;
    document.getElementById("page").setAttribute("aria-busy", String(now));
  }

  // Ask for an address of this page. The number makes two equal questions different.
  function ask(query) {
    const channel = model("ask");
    if (!channel) return false;
    waiting += 1;
    busy(true);
    channel.value = waiting + " " + query;
    return true;
  }

  function go(query) {
    if (!ask(query)) {
      location.search = query;
      return;
    }
    history.pushState(null, "", query || location.pathname);
  }

  function origin(event, selector) {
    return event.composedPath().find((node) => node.matches && node.matches(selector));
  }

  document.addEventListener("click", (event) => {
    const link = origin(event, "a[data-go]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(new URL(link.href).search);
  });

  // A form inside a pane: the submit event does not leave its root, so the pane's own root is listened to.
  const roots = new WeakSet();
  function listen(root) {
    if (roots.has(root)) return;
    roots.add(root);
    root.addEventListener("submit", (event) => {
      const form = event.target.closest("form[data-go]");
      if (!form) return;
      event.preventDefault();
      const fields = new URLSearchParams();
      for (const [name, value] of new FormData(form, event.submitter)) if (value !== "") fields.append(name, value);
      go("?" + fields);
    });
  }
  document.addEventListener("click", (event) => event.composedPath().forEach((node) => node instanceof ShadowRoot && listen(node)), true);
  document.addEventListener("focusin", (event) => event.composedPath().forEach((node) => node instanceof ShadowRoot && listen(node)));
  document.addEventListener("pointerdown", (event) => event.composedPath().forEach((node) => node instanceof ShadowRoot && listen(node)));

  window.addEventListener("popstate", () => ask(location.search) || location.reload());

  // A span drawn over the histogram becomes since and until.
  document.addEventListener("pointerdown", (event) => {
    const chart = origin(event, "svg[data-brush]");
    if (!chart || event.button !== 0) return;
    const box = chart.getBoundingClientRect();
    const place = (at) => Math.min(1, Math.max(0, (at.clientX - box.left) / box.width));
    const from = place(event);
    const span = chart.querySelector(".span");
    let to = from;
    function move(at) {
      to = place(at);
      span.setAttribute("x", String(1000 * Math.min(from, to)));
      span.setAttribute("width", String(1000 * Math.abs(to - from)));
    }
    function end() {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", end);
      if (Math.abs(to - from) * box.width < 4) return; // a click, on a bar's own link
      window.addEventListener("click", (click) => { click.preventDefault(); click.stopPropagation(); }, { capture: true, once: true });
      const bars = Number(chart.dataset.bars), start = Number(chart.dataset.start), width = Number(chart.dataset.width);
      const at = (bar) => new Date(1000 * (start + width * bar)).toISOString().replace(".000Z", "Z");
      const fields = new URLSearchParams(chart.dataset.brush);
      fields.delete("through");
      fields.set("tz", "UTC");
      fields.set("since", at(Math.floor(Math.min(from, to) * bars)));
      fields.set("until", at(Math.ceil(Math.max(from, to) * bars)));
      go("?" + fields);
    }
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
  });

  // The server says which question it answered last; a lost connection is said on the page.
  function watch() {
    const answered = model("answered");
    if (!answered) return void setTimeout(watch, 50);
    answered.properties.value.change.connect(() => {
      if (Number(answered.value) >= waiting) busy(false);
    });
    busy(Number(answered.value) < waiting || answered.value === "");
    document.documentElement.dataset.open = "yes";
  }
  document.addEventListener("DOMContentLoaded", () => { busy(true); watch(); });
  document.addEventListener("bokeh-lost", () => { document.getElementById("lost").hidden = false; busy(false); });
})();
