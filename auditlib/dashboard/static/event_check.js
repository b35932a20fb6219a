"use strict";
/* One event's proof, gone through again in a worker of the browser, by the numbered steps of auditlib/scoped/proof.py.

   Hashes, signatures, canonical JSON and the rules for records, seals and checkpoints are those of report.html: the very
   files primitives.js and checks.js of auditlib/packet/templates, which the server gives out beside this one. A worker of
   its own keeps their names off the page, and the page alive meanwhile. */

importScripts("primitives.js", "checks.js");

const STEPS = {
  1: "The record and its blind give the leaf",
  2: "The leaf and its path lead to the batch\u2019s root",
  3: "The seal states this root",
  4: "The seal gives its own leaf",
  5: "This leaf and its path lead to the checkpoint\u2019s root",
  6: "The checkpoint is signed by a key that is trusted",
};
const PROOF = {
  record: "text|null", blind: "text|null", leaf: "text", path: "list", root: "text", seal: "text", seal_leaf: "text",
  seal_path: "list", checkpoint_root: "text", checkpoint: "text", keys: "list", confirmed: "boolean",
};
const MAX_PATH = 64; // hashes; a batch of 2^20 leaves takes 20

function hash(text) {
  rule(HASH.test(text), `${JSON.stringify(String(text).slice(0, 80))} is no SHA-256 in hex.`);
  return unhex(text);
}

/** RFC 6962 2.1.1, lowest first, each hash with the side it stands on -> the root, in hex. */
function climb(leaf, path) {
  rule(path.length <= MAX_PATH, "the path is longer than any tree is high.");
  return hex(path.reduce((node, step) => {
    fields(step, { side: "text", hash: "text" });
    rule(["left", "right"].includes(step.side), "a hash of the path stands on no side.");
    return step.side === "left" ? sha256(NODE, hash(step.hash), node) : sha256(NODE, node, hash(step.hash));
  }, hash(leaf)));
}

/** Each step -> what was computed, what is stated, and what else there is to say. */
const WAYS = {
  1(proof) {
    if (proof.record === null || proof.blind === null) {
      rule(proof.record === proof.blind, "the blind is there without its record, or the record without its blind.");
      return { open: "Fields were left out of this record, so its full text and its blind are not here: that a record "
        + "was sealed at this place can be checked, what it says cannot." };
    }
    rule(/^[0-9a-f]{32}$/.test(proof.blind), "the blind is not 16 bytes in hex.");
    const bytes = utf8.encode(proof.record), computed = hex(leafHash(unhex(proof.blind), bytes));
    if (computed === proof.leaf) checkRecord(bytes);
    return { computed, stated: proof.leaf };
  },
  2: (proof) => ({ computed: climb(proof.leaf, proof.path), stated: proof.root }),
  3: (proof) => ({ computed: checkSeal(utf8.encode(proof.seal)).batch.root, stated: proof.root, from: "In the seal" }),
  4: (proof) => ({ computed: hex(leafHash(utf8.encode(proof.seal))), stated: proof.seal_leaf }),
  5: (proof) => ({ computed: climb(proof.seal_leaf, proof.seal_path), stated: proof.checkpoint_root }),
  async 6(proof, pasted) {
    const keys = pasted.length ? pasted : parseKeys(proof.keys.join("\n"));
    const note = checkNote(utf8.encode(proof.checkpoint), keys), signers = note.signers.map((key) => key.text).join(", ");
    rule(note.signers.some((key) => key.name === note.origin), "it is signed by keys of other trails alone.");
    rule(note.origin === JSON.parse(proof.seal).origin, "the seal is of another trail than the checkpoint.");
    for (const one of note.signed) rule(await secondOpinion(one) !== false, "Web Crypto finds the signature wrong.");
    const told = { computed: hex(note.root), stated: proof.checkpoint_root, from: "In the checkpoint" };
    if (pasted.length) return { ...told, note: `Signed by the key that you gave: ${signers}` };
    return { ...told, open: "The signature is good, but no key was given: it was checked with the key that this server "
      + `names. That proves nothing alone; paste the key that you got by another way. Used: ${signers}` };
  },
};

/** A proof and what was pasted as keys -> every step with its state, or why nothing could be checked. */
async function checkProof(proof, keyText) {
  try {
    if (!selfTest()) throw new Refused("The published vectors fail: this browser, or this page, is broken.");
    let keys;
    try { keys = parseKeys(keyText); } catch (error) { throw new Refused(`The key cannot be used: ${error.message}`); }
    fields(proof, PROOF);
    const steps = [];
    for (const [number, title] of Object.entries(STEPS)) {
      let told;
      try {
        told = await WAYS[number](proof, keys);
        if (told.computed !== told.stated) told.fault = "These two differ.";
      } catch (error) {
        told = { fault: error instanceof Fault ? `${error.message}` : `It cannot be read (${error.name}).` };
      }
      steps.push({ number, title, state: told.fault ? "fault" : told.open ? "open" : "pass", ...told });
    }
    return { steps };
  } catch (error) {
    return { refused: error instanceof Fault || error instanceof Refused ? error.message : `It cannot be read (${error.name}).` };
  }
}

onmessage = async ({ data }) => postMessage(await checkProof(data.proof, data.keys));
