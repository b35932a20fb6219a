"use strict";
/* The Event page's two buttons. The page is drawn by Panel inside shadow roots and drawn again at will, so that nothing
   here holds on to an element: one listener on the document finds what was clicked by the event's composed path.

   Loaded once, as <script src=".../event.js" defer>; event_check.js lies beside it and runs as a worker. Everything that
   is shown is put in as text, never as HTML. */

(() => {
  const WORKER = new URL("event_check.js", document.currentScript.src);
  const MARKS = { pass: ["\u2713", "holds"], fault: ["\u2717", "does not hold"], open: ["?", "open"] };

  /** A text whose control and formatting characters can be seen. */
  const visible = (text) => String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

  function element(tag, name, ...children) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
    return made;
  }

  const kept = (box, name) => box.querySelector(`template[${name}]`)?.content.textContent ?? null;

  /** The outcome in one line of facts, and its state. */
  function verdict({ refused, steps }) {
    if (refused) return ["fault", `Nothing was checked. ${refused}`];
    const broken = steps.find((step) => step.state === "fault"), open = steps.filter((step) => step.state === "open");
    if (broken) return ["fault", `Step ${broken.number} does not hold: ${broken.title.toLowerCase()}.`];
    if (open.length) return ["open", `No step fails; ${open.map((step) => `step ${step.number}`).join(" and ")} stays open.`];
    return ["pass", "Every step holds: this record leads to a checkpoint signed by the key that you gave."];
  }

  function row(step) {
    const [sign, word] = MARKS[step.state], values = element("dl", "");
    for (const [name, value] of [[step.from ?? "Computed here", step.computed], ["Stated", step.stated]]) {
      if (value !== undefined) values.append(element("dt", "", name), element("dd", "", element("code", "", value)));
    }
    const told = [step.fault, step.open, step.note].filter(Boolean).map((sentence) => element("p", "", sentence));
    return element("li", step.state, element("p", "step", element("b", "mark", sign), ` ${step.title}: `, element("b", "", word)),
      ...told, ...(values.children.length ? [values] : []));
  }

  function show(outcome, result) {
    const [state, sentence] = verdict(result);
    const line = element("p", `verdict ${state}`, element("b", "mark", MARKS[state][0]), ` Checked in this browser. ${sentence}`);
    line.tabIndex = -1;
    outcome.replaceChildren(line, element("ol", "steps", ...(result.steps ?? []).map(row)));
    outcome.dataset.state = state;
    line.focus();
  }

  function check(box, button) {
    const outcome = box.querySelector("[data-outcome]");
    outcome.dataset.state = "busy";
    outcome.replaceChildren(element("p", "verdict", "Checking\u2026"));
    button.setAttribute("aria-disabled", "true"); // and not disabled: that would take the focus away
    let worker;
    const end = (result) => {
      worker?.terminate();
      button.removeAttribute("aria-disabled");
      show(outcome, result);
    };
    try {
      const proof = { record: null, ...JSON.parse(kept(box, "data-proof")) };
      if (proof.blind !== null) proof.record = kept(box, "data-record"); // the very text that is copied
      worker = new Worker(WORKER);
      worker.onmessage = ({ data }) => end(data);
      worker.onerror = () => end({ refused: "This browser did not run the check." });
      worker.postMessage({ proof, keys: box.querySelector("[data-key]").value });
    } catch (error) {
      end({ refused: `The proof cannot be read (${error.name}).` });
    }
  }

  /** Into the clipboard; where the browser forbids it, the text is shown and selected. */
  async function copy(box) {
    const said = box.querySelector("[data-copied]"), text = kept(box, "data-record");
    try {
      await navigator.clipboard.writeText(text);
      said.replaceChildren("Copied.");
    } catch {
      const area = element("textarea", "exact");
      area.value = text;
      area.readOnly = true;
      area.setAttribute("aria-label", "The record\u2019s exact bytes");
      said.replaceChildren("This browser does not copy by a button. The exact text, selected: ", area);
      area.focus();
      area.select();
    }
  }

  document.addEventListener("click", (event) => {
    const path = event.composedPath().filter((node) => node instanceof Element);
    const button = path.find((node) => node.matches("[data-check-proof], [data-copy-record]"));
    const box = button?.closest("[data-event]");
    if (!box) return;
    if (button.hasAttribute("data-copy-record")) copy(box);
    else if (button.getAttribute("aria-disabled") !== "true") check(box, button);
  });
})();
