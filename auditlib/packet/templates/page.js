/* What the page does: it takes the packet's files and a key, runs the checks in a worker, and shows each check with its
   evidence. Whatever a packet says is put in as text, never as HTML. Nothing is sent: the policy of the page forbids it. */

const MOST_FAULTS = 50; // of one check that are shown
const MARKS = { pass: ["\u2713", "passed"], fault: ["\u2717", "fault"], open: ["?", "open"] };
const FOLDER_TROUBLE = "This browser does not open a dropped folder from a page on disk. Choose the folder instead, or drop "
  + "the packet's .zip.";

/** A text whose control and formatting characters can be seen: nothing turns a line round or hides in it. */
const visible = (text) => String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return made;
}

// --- what was chosen -------------------------------------------------------------------------------------------------

/** Every file below a dropped folder's entry, as [name, File]. */
async function walk(entry, name, found) {
  if (found.length > MAX_FILES) return;
  if (entry.isFile) {
    found.push([name, await new Promise((go, stop) => entry.file(go, stop))]);
    return;
  }
  const reader = entry.createReader();
  for (let some; (some = await new Promise((go, stop) => reader.readEntries(go, stop))).length;) {
    for (const inner of some) await walk(inner, `${name}/${inner.name}`, found);
  }
}

/** The same by a handle: Chromium reads a dropped folder in no other way where the page lies on disk. */
async function walkHandle(handle, name, found) {
  if (found.length > MAX_FILES) return;
  if (handle.kind === "file") found.push([name, await handle.getFile()]);
  else for await (const [inner, one] of handle.entries()) await walkHandle(one, `${name}/${inner}`, found);
}

/** What was dropped, as [name, File]: a .zip as it is, folders with all that lies in them. The first lines run while
    the event lasts: after it the browser forgets what was dropped. */
async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file"), files = [...transfer.files], found = [];
  const entries = items.map((item) => item.webkitGetAsEntry?.());
  const handles = items.map((item) => item.getAsFileSystemHandle?.().catch(() => null));
  if (!entries.some((entry) => entry?.isDirectory)) return files.map((file) => [file.name, file]);
  for (const [i, entry] of entries.entries()) {
    const handle = await handles[i];
    await (handle ? walkHandle(handle, handle.name, found) : walk(entry, entry.name, found));
  }
  return found;
}

// --- what is shown ---------------------------------------------------------------------------------------------------

/** The outcome in one line of facts, and its state. */
function verdict(result) {
  if (result.refused) return ["fault", `Nothing was checked. ${result.refused}`];
  if (result.faults) {
    const names = result.files.slice(0, 3).join(", ") + (result.files.length > 3 ? ` and ${result.files.length - 3} more` : "");
    return ["fault", `${result.faults.toLocaleString("en-US")} fault${result.faults > 1 ? "s were" : " was"} found, in ${names}.`];
  }
  if (!result.confirmed) {
    return ["open", "No fault was found, but no key was given: the files agree with each other and with the key that the "
      + "packet itself names. That proves nothing alone. Paste the key that you got by another way."];
  }
  if (result.redacted) { // whoever has no key could leave out a field, and write another record in the same place
    return ["open", `No fault was found, and the files lead to a checkpoint signed by the key you gave; but fields were left `
      + `out of ${result.redacted.toLocaleString("en-US")} records: that they were sealed is proven, what is shown of them is not.`];
  }
  return ["pass", "Every check passed: the files are those that were hashed, and they lead to a checkpoint signed by the key "
    + "you gave."];
}

function checkRow(check) {
  const [sign, word] = MARKS[check.state];
  const told = element("div", "evidence", ...check.evidence.map((sentence) => element("p", "", sentence)));
  if (check.seen) {
    const list = element("ul", "faults", ...check.faults.slice(0, MOST_FAULTS).map((fault) =>
      element("li", "", element("code", "", fault.where), `: ${fault.message}`)));
    told.append(list);
    if (check.seen > MOST_FAULTS) told.append(element("p", "", `${check.seen - MOST_FAULTS} more of this check are not shown.`));
  }
  const row = element("tr", check.state, element("td", "n", check.number),
    element("td", "mark", element("b", "", sign), ` ${word}`),
    element("td", "", element("p", "title", check.title), told));
  return row;
}

function show(result, seconds) {
  const [state, sentence] = verdict(result), box = document.getElementById("outcome");
  const line = element("p", `verdict ${state}`, element("b", "", MARKS[state][0]), ` ${sentence}`);
  line.id = "verdict";
  line.tabIndex = -1;
  box.replaceChildren(line);
  const top = document.getElementById("standing");
  const link = element("a", "", "See each check");
  link.href = "#check";
  top.className = `verdict ${state}`;
  top.replaceChildren(element("b", "", MARKS[state][0]), ` Checked in this browser. ${sentence} `, link);
  top.hidden = false;
  if (result.refused) return line.focus();
  const head = element("tr", "", ...["Check", "Outcome", "What was checked, and the evidence"].map((text) => {
    const cell = element("th", "", text);
    cell.scope = "col";
    return cell;
  }));
  const table = element("table", "checks", element("caption", "", element("span", "", "The checks made in this browser")),
    element("thead", "", head), element("tbody", "", ...result.checks.map(checkRow)));
  const facts = element("dl", "", ...Object.entries(result.digests).flatMap(([what, digest]) =>
    [element("dt", "", what), element("dd", "", element("code", "", digest))]));
  const speaks = result.speaks
    ? "The packet that was checked is the one that this page speaks of: its evidence digest is the one printed here."
    : "The packet that was checked is NOT the one that this page speaks of: its evidence digest is another than the one printed here.";
  facts.append(element("dt", "", "This page"), element("dd", result.speaks ? "" : "flagged", speaks));
  facts.append(element("dt", "", "Time taken"), element("dd", "", `${seconds.toFixed(1)} s`));
  box.append(facts, element("div", "scroll", table), element("p", "note", "Not checked here:"),
    element("ul", "note", ...result.unchecked.map((each) => element("li", "", `${each}.`))));
  line.focus();
}

// --- running ---------------------------------------------------------------------------------------------------------

/** checkPacket in a worker made of this very script; where the browser has none for a page on disk, in the page. */
function inWorker(source, given, keys, printed, progress) {
  return new Promise((go) => {
    const here = () => go(checkPacket(given, keys, printed, progress));
    let worker;
    try {
      worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    } catch {
      here();
      return;
    }
    worker.onerror = () => { worker.terminate(); here(); };
    worker.onmessage = ({ data }) => {
      if (data.result) { worker.terminate(); go(data.result); } else progress(...data.progress);
    };
    worker.postMessage({ given, keys, printed });
  });
}

function startPage() {
  const source = document.currentScript.textContent, at = (id) => document.getElementById(id);
  const box = at("drop"), bar = at("progress"), status = at("status"), key = at("key");
  let given = null, turn = 0;
  const say = (text) => status.replaceChildren(visible(text));

  async function check() {
    if (!given) return say("Drop the packet, or choose it, first.");
    const mine = ++turn, began = performance.now();
    at("outcome").replaceChildren();
    at("standing").hidden = true;
    bar.hidden = false;
    bar.removeAttribute("value");
    say(`Checking ${given.length === 1 ? given[0][0] : `${given.length} files`} \u2026`);
    const progress = (done, total) => { if (mine === turn && total) bar.value = done / total; };
    const result = await inWorker(source, given, key.value, document.body.dataset.digest, progress);
    if (mine !== turn) return; // something else was chosen meanwhile
    bar.hidden = true;
    say("");
    show(result, (performance.now() - began) / 1000);
  }

  async function take(getFiles) {
    try {
      const found = await getFiles(), keys = found.filter(([name]) => /\.vkey$/i.test(name));
      if (keys.length && keys.length === found.length) { // a key file dropped or chosen instead of pasted
        key.value = (await keys[0][1].slice(0, 65_536).text()).trim();
        if (given) await check(); else say("The key was taken. Now drop the packet.");
        return;
      }
      if (!found.length) return;
      given = found;
      await check();
    } catch {
      say(FOLDER_TROUBLE);
    }
  }

  const chosen = (input) => [...input.files].map((file) => [file.webkitRelativePath || file.name, file]);
  for (const id of ["folder", "zip", "keyfile"]) {
    at(id).addEventListener("click", ({ target }) => { target.value = ""; }); // else the same file again is no change
    at(id).addEventListener("change", ({ target }) => take(() => chosen(target)));
  }
  at("again").addEventListener("click", check);
  for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
    addEventListener(name, (event) => { // anywhere on the page: a miss would leave it and open the file
      event.preventDefault();
      box.classList.toggle("over", over);
    });
  }
  addEventListener("drop", (event) => take(() => dropped(event.dataTransfer)));
  at("tool").hidden = false;
}

if (typeof document === "undefined") {
  onmessage = async ({ data }) => {
    const progress = (...told) => postMessage({ progress: told });
    postMessage({ result: await checkPacket(data.given, data.keys, data.printed, progress) });
  };
} else startPage();
