/* The six checks of a packet, numbered as in `auditlib packet verify` and in verify.py. It runs in a worker where the
   browser has one, else in the page. How a packet proves something: a record leads to the Merkle root of its batch (5),
   which stands in a seal; the seals lead to the root in the checkpoint (4); the checkpoint is signed (3). The rest ties
   tables and counts to the records (6), and every file to packet.json (2) and to the manifests (1). */

const CHECKS = {
  1: "the bag holds the files its manifests list, unchanged, and no others",
  2: "packet.json is canonical and names every file of the evidence by its hash",
  3: "the checkpoint is signed by a trusted key",
  4: "the seals lead to the checkpoint, and each carries the hash of the one before where both are here",
  5: "every record is canonical and leads to the root of its sealed batch",
  6: "the tables speak of records that are here as these do, and their counts are those of packet.json",
};
const MIB = 1024 * 1024; // bytes
const MAX_FILES = 10_000, MAX_FILE = 1024 * MIB, MAX_PACKET = 4096 * MIB; // files; bytes of one; bytes of all
const MAX_JSON = 16 * MIB, MAX_PROOF = 64 * MIB; // bytes of packet.json; of one proof
const MAX_LINES = 2_000_000; // lines of a file
const MAX_FAULTS = 1_000; // faults of one check that are told
const MAX_RATIO = 200, MIN_DEFLATED = 1024; // a zip member unpacks to at most 200 times its size, small ones aside
const SLICE = 4 * MIB; // bytes hashed at a time
const TWICE = 16 * MIB; // bytes up to which a file is hashed a second time, by Web Crypto

// --- hostile containers ----------------------------------------------------------------------------------------------

/** {name: {size, blob, packed}} of a packet: what was chosen is one zip, or the files of a folder. */
async function openPacket(given) {
  const zip = given.length === 1 && /\.zip$/i.test(given[0][0]) ? given[0][1] : null;
  let files = new Map();
  if (zip) files = await openZip(zip);
  else for (const [name, blob] of given) addFile(files, name, { size: blob.size, blob, packed: false });
  const sizes = [...files.values()].map((file) => file.size);
  if (files.size > MAX_FILES || sizes.some((size) => size > MAX_FILE) || sizes.reduce((a, b) => a + b, 0) > MAX_PACKET) {
    throw new Refused("The packet is larger than a packet may be.");
  }
  const tops = new Set([...files.keys()].map((name) => name.split("/")[0])); // a folder around everything
  const around = tops.size === 1 ? [...tops][0] + "/" : "";
  if (!files.has(around + "bagit.txt")) return files;
  return new Map([...files].map(([name, file]) => [name.slice(around.length), file]));
}

function addFile(files, name, file) {
  const parts = name.split("/");
  if (name.length > 1024 || !/^[!-[\]-~]+$/.test(name) || parts.some((part) => ["", ".", ".."].includes(part))) {
    throw new Refused(`${JSON.stringify(name.slice(0, 120))} is no name of a file in a packet.`);
  }
  files.lower ??= new Set(); // a file system that ignores case would take two such names for one
  if (files.lower.has(name.toLowerCase())) throw new Refused(`A file stands twice, or in other capitals: ${name}.`);
  files.lower.add(name.toLowerCase());
  files.set(name, file);
}

/** A zip's members, by its central directory (APPNOTE 4.3): stored, or deflated by whoever packed it again. */
async function openZip(zip) {
  const bytesOf = async (from, to) => new DataView(await zip.slice(from, to).arrayBuffer());
  const damaged = (holds) => { if (!holds) throw new Refused("This zip is damaged, or is none."); };
  const tail = await bytesOf(Math.max(0, zip.size - 65_557), zip.size); // the end record, and a comment of 65,535
  let end = tail.byteLength - 22;
  const isEnd = (at) => tail.getUint32(at, true) === 0x06054b50 && tail.getUint16(at + 20, true) === tail.byteLength - at - 22;
  while (end >= 0 && !isEnd(end)) end--;
  damaged(end >= 0);
  const count = tail.getUint16(end + 10, true), size = tail.getUint32(end + 12, true), start = tail.getUint32(end + 16, true);
  if (count === 0xffff || start === 0xffffffff) throw new Refused("A zip with 64-bit sizes is not read here: use verify.py.");
  damaged(start + size === zip.size - tail.byteLength + end && tail.getUint16(end + 8, true) === count);
  const central = await bytesOf(start, start + size), files = new Map();
  let at = 0;
  for (let member = 0; member < count; member++) {
    damaged(at + 46 <= size && central.getUint32(at, true) === 0x02014b50);
    const [flags, method] = [central.getUint16(at + 8, true), central.getUint16(at + 10, true)];
    const [packed, unpacked] = [central.getUint32(at + 20, true), central.getUint32(at + 24, true)];
    const lengths = [28, 30, 32].map((place) => central.getUint16(at + place, true));
    const mode = central.getUint16(at + 40, true) & 0xf000, local = central.getUint32(at + 42, true);
    damaged(at + 46 + lengths[0] <= size);
    const raw = new Uint8Array(central.buffer, at + 46, lengths[0]);
    const name = Array.from(raw, (byte) => String.fromCharCode(byte)).join(""); // visible ASCII, or refused
    at += 46 + lengths[0] + lengths[1] + lengths[2];
    const file = { size: unpacked, packed: method === 8 };
    addFile(name.endsWith("/") ? new Map() : files, name.replace(/\/$/, ""), file);
    if (![0, 0x8000, 0x4000].includes(mode)) throw new Refused(`A packet holds plain files alone, no links or devices: ${name}.`);
    if (![0, 8].includes(method) || flags & 0x41) throw new Refused(`Neither stored nor deflated, or encrypted: ${name}.`);
    const bomb = unpacked > MAX_RATIO * Math.max(MIN_DEFLATED, packed);
    if (bomb) throw new Refused(`It unpacks to more than it may (a zip bomb?): ${name}.`);
    if (files.size > MAX_FILES) throw new Refused("The packet is larger than a packet may be.");
    const head = await bytesOf(local, local + 30 + lengths[0]);
    damaged(head.byteLength === 30 + lengths[0] && head.getUint32(0, true) === 0x04034b50);
    damaged(head.getUint16(26, true) === lengths[0] && same(new Uint8Array(head.buffer, 30), raw));
    const from = local + 30 + lengths[0] + head.getUint16(28, true);
    damaged(from + packed <= start && (file.packed || packed === unpacked));
    file.blob = zip.slice(from, from + packed);
  }
  damaged(at === size);
  return files;
}

/** The bytes of a file, SLICE by SLICE, never more than the size that was judged. */
async function* chunks(file) {
  let left = file.size;
  try {
    if (!file.packed) {
      for (let at = 0; at < file.size; at += SLICE) {
        yield new Uint8Array(await file.blob.slice(at, at + SLICE).arrayBuffer());
      }
      return;
    }
    const reader = file.blob.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    for (let step; !(step = await reader.read()).done; yield step.value) {
      left -= step.value.length;
      if (left < 0) break;
    }
  } catch (error) {
    throw new Fault(`the file cannot be read, or the zip is damaged (${error.name}).`);
  }
  rule(left === 0, "the file is longer or shorter than the zip states.");
}

// --- keys and checkpoints (C2SP signed-note, tlog-checkpoint) --------------------------------------------------------

const ORIGIN = /^[!-*,-~]{1,255}$/; // visible ASCII without `+`
const HASH = /^[0-9a-f]{64}$/, BLIND = /^([0-9a-f]{32}|[0-9a-f]{64})$/; // 16 bytes; or, of a redacted record, its leaf hash

/** `name+<8 hex of the key hash>+<base64 of 0x01 and the public key>` -> {name, hash, public, text}. */
function parseKey(text) {
  const [, name, stated, data] = /^([^+]*)\+([^+]*)\+(.*)$/.exec(text.trim()) ?? [];
  rule(name !== "PRIVATE", "this is a secret key: it must not leave its owner. Paste the verifier key.");
  let key = new Uint8Array(0);
  try { key = unbase64(data ?? ""); } catch { /* told below */ }
  rule(ORIGIN.test(name ?? "") && key.length === 33 && key[0] === 1, "this is no verifier key: name+hash+base64.");
  const hash = hex(sha256(utf8.encode(name + "\n"), key)).slice(0, 8);
  rule(hash === stated, `the hash in the verifier key of ${name} is not that of its name and key: a character is wrong.`);
  return { name, hash, public: key.slice(1), text: `${name}+${hash}+${data}` };
}

/** What was pasted -> keys: one a line, `#` begins a comment. */
function parseKeys(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("#")).map(parseKey);
}

/** A checkpoint and the keys one trusts -> {origin, size, root, signers, signed}. A bad signature by one of these keys
    is a Fault, and so is none at all; signatures of others are passed over. */
function checkNote(bytes, keys) {
  rule(bytes.length <= 262_144, "a checkpoint of more than 262,144 bytes.");
  const note = decode(bytes), blank = note.lastIndexOf("\n\n");
  rule(!/[\0-\x09\x0b-\x1f]/.test(note), "a control character stands in the checkpoint.");
  const text = note.slice(0, blank + 1), lines = note.slice(blank + 2).split("\n"), [origin, size, root] = text.split("\n");
  rule(blank >= 0 && lines.pop() === "" && text.split("\n").length === 4, "not three lines, an empty one, signatures.");
  rule(ORIGIN.test(origin) && /^(0|[1-9][0-9]{0,15})$/.test(size), "the origin or the size is none.");
  rule(unbase64(root).length === 32, "the root is not 32 bytes.");
  const message = utf8.encode(text), signers = [], signed = [];
  const found = lines.map((line) => {
    const match = /^\u2014 ([^ +\n]+) ([A-Za-z0-9+/=]+)$/.exec(line);
    rule(match, "a signature line is not '\u2014 name base64'.");
    return [match[1], unbase64(match[2])];
  });
  for (const [name, blob] of found) {
    const key = keys.find((one) => one.name === name && one.hash === hex(blob.subarray(0, 4)));
    if (!key || signed.some((one) => one.key === key && same(one.signature, blob.subarray(4)))) continue; // known to be good
    rule(signers.length < 16, "more than 16 signatures by known keys.");
    rule(ed25519(key.public, blob.subarray(4), message), `the signature by ${name} does not verify: it was altered or forged.`);
    signed.push({ key, signature: blob.subarray(4), message });
    if (!signers.includes(key)) signers.push(key);
  }
  rule(signers.length, "no signature by a trusted key.");
  return { origin, size: Number(size), root: unbase64(root), signers, signed };
}

// --- records and seals -----------------------------------------------------------------------------------------------

const NAME = /^[a-z0-9_.:/-]{1,128}$/, ACTION = /^[a-z0-9_:/-]+(\.[a-z0-9_:/-]+)+$/;
const OUTCOMES = ["success", "failure", "denied"], ACTORS = ["user", "service", "system", "support", "anonymous"];

/** One line of events.jsonl -> {event, receipt}, every rule of the frozen schema held. */
function checkRecord(line) {
  rule(line.length <= 131_072, "a record of more than 131,072 bytes.");
  const record = fields(parse(line), { event: "object", receipt: "object" });
  const event = fields(record.event, {
    action: "text", actor: "object", context: "object", event_id: "text", occurred_at: "text", outcome: "text", target: "object",
  });
  const actor = fields(event.actor, { id: "text", session: "text|null", type: "text" });
  const target = fields(event.target, { id: "text", type: "text" });
  const receipt = fields(record.receipt, { recorded_at: "text", source: "text", source_seq: "integer|null" });
  rule(/^[!-~]{1,128}$/.test(event.event_id), "event_id is not 1 to 128 visible ASCII characters.");
  rule(NAME.test(event.action) && ACTION.test(event.action), "action is not dotted lower-case words.");
  rule(ACTORS.includes(actor.type) && OUTCOMES.includes(event.outcome), "actor.type or outcome is none of those there are.");
  rule(NAME.test(target.type) && NAME.test(receipt.source), "target.type or source is not written as it must be.");
  for (const text of [actor.id, target.id, actor.session ?? "-"]) {
    const length = utf8.encode(text).length;
    rule(length >= 1 && length <= 1024 && !text.includes("\0"), "an id is empty, too long, or holds U+0000.");
  }
  rule(receipt.source_seq === null || receipt.source_seq >= 1, "source_seq counts from 1.");
  canonicalTime(event.occurred_at);
  canonicalTime(receipt.recorded_at);
  checkContext(event.context, 1);
  rule(utf8.encode(canonical(event.context)).length <= 16_384, "the context has more than 16,384 bytes.");
  return record;
}

/** Whether an event has a field: actor.session, or a dotted path of its context. */
function hasField(event, path) {
  if (path === "actor.session") return event.actor.session !== null;
  return stands({ context: event.context }, path.split("."));
}

/** Whether a path leads anywhere; through a list, by any of its elements. */
function stands(place, path) {
  if (!path.length) return true;
  if (Array.isArray(place)) return place.some((element) => stands(element, path));
  const object = place !== null && typeof place === "object";
  return object && Object.hasOwn(place, path[0]) && stands(place[path[0]], path.slice(1));
}

/** At most 8 levels, no U+0000, no object whose only key is $enc, no integer written as a double (1e+21). */
function checkContext(value, level) {
  const nested = value !== null && typeof value === "object";
  rule(level <= 8 || !nested, "the context has more than 8 levels.");
  rule(typeof value !== "string" || !value.includes("\0"), "U+0000 is not allowed.");
  rule(!Number.isInteger(value) || Number.isSafeInteger(value), "an integer past 2^53 - 1.");
  if (!nested) return;
  const keys = Array.isArray(value) ? [] : Object.keys(value);
  rule(!(keys.length === 1 && keys[0] === "$enc"), "an object whose only key is $enc is reserved.");
  for (const item of [...keys, ...Object.values(value)]) checkContext(item, level + 1);
}

/** One line of seals.jsonl -> the seal, every rule of its form held. Its own signature is not looked at: the
    checkpoint's covers the root over all seals. */
function checkSeal(line) {
  rule(line.length <= 262_144, "a seal of more than 262,144 bytes.");
  const seal = fields(parse(line), {
    batch: "object", counts: "object", format: "text", occurred: "list", origin: "text", previous: "text", recorded: "list",
    schema: "text", sealed_at: "text", sequence: "integer", signature: "text", sources: "object", trail: "text",
  });
  const batch = fields(seal.batch, { events: "integer", object: "text", root: "text", sha256: "text", size: "integer" });
  const counts = fields(seal.counts, { actions: "object|null", outcomes: "object" });
  rule(seal.format === "auditlib/seal/v1" && seal.schema === "auditlib/record/v1", "a seal of another version.");
  rule(ORIGIN.test(seal.origin), "origin is not written as it must be.");
  rule(seal.sequence >= 0 && seal.sequence < 1e12, "sequence is out of bounds.");
  const bounded = batch.events >= 1 && batch.events <= 2 ** 20 && batch.size >= 1 && batch.size <= 512 * MIB;
  rule(bounded, "the batch's events or size are out of bounds.");
  rule([batch.root, batch.sha256, seal.previous, seal.trail].every((text) => HASH.test(text)), "a hash is no SHA-256 in hex.");
  canonicalTime(seal.sealed_at);
  for (const span of [seal.occurred, seal.recorded]) {
    rule(span.length === 2 && canonicalTime(span[0]) <= canonicalTime(span[1]), "a range is not [least, greatest].");
  }
  const place = `${String(seal.sequence).padStart(12, "0")}-${batch.sha256.slice(0, 16)}.parquet`;
  rule(batch.object === `batches/recorded_date=${seal.recorded[0].slice(0, 10)}/${place}`, "the batch's object is not named as it must be.");
  const stated = [Object.values(counts.outcomes), []];
  if (counts.actions) stated.push(Object.values(counts.actions));
  for (const [name, one] of Object.entries(seal.sources)) {
    const kinds = { events: "integer", first_seq: "integer|null", last_seq: "integer|null" };
    const { events, first_seq: first, last_seq: last } = fields(one, kinds);
    stated[1].push(events);
    rule(NAME.test(name) && (first === null) === (last === null), "a source is not described as it must be.");
    rule(first === null || (first >= 1 && first <= last), "the numbers of a source are out of order.");
  }
  for (const numbers of stated) {
    rule(numbers.every((count) => Number.isSafeInteger(count) && count >= 1), "a count is not 1 or more.");
    rule(numbers.reduce((a, b) => a + b, 0) === batch.events, "the counts do not add up to the batch's events.");
  }
  const actions = Object.keys(counts.actions ?? {});
  rule(Object.keys(counts.outcomes).every((name) => OUTCOMES.includes(name)), "counts of outcomes that there are not.");
  rule(actions.length <= 256 && actions.every((name) => NAME.test(name)), "counts of actions that cannot be.");
  return seal;
}

// --- the six checks --------------------------------------------------------------------------------------------------

const PROOF_FILES = ["checkpoint", "inclusion.jsonl", "seals-proof.json", "seals.jsonl"];
const NOT_HASHED = ["packet.json", "report.html", "report.pdf"]; // the reports print the hash of packet.json
const TAGS = ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", "transmittal.json"];
const BAGIT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"; // RFC 8493 2.1.1
const NO_SEAL = "0".repeat(64); // what the first seal carries as the hash of the one before
const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/; // tables put an apostrophe before these
const COLUMNS = ["event_id", "occurred_at", "action", "outcome", "recorded_at", "source", "actor_type", "actor_id"];
const PLACE = ["trail", "sequence", "row"]; // what its proof says of a record

/** Every check over one packet. `files` as openPacket gives them, `keys` are trusted, `progress(done, of)` is told the
    bytes read. */
class Checker {
  constructor(files, keys, progress = () => {}) {
    this.files = files;
    this.keys = keys;
    this.progress = progress;
    this.total = [...files.values()].reduce((sum, file) => sum + file.size, 0);
    this.read = this.breath = 0;
    this.faults = [];
    this.seen = {}; // faults by check, those not told as well
    this.count = { hashed: 0, twice: 0, bytes: 0, named: 0, seals: 0, links: 0, batches: 0, rows: 0, items: 0, last: 0 };
    this.hashes = new Map();
    this.packet = {};
    this.checkpoints = [];
    this.seals = [];
    this.redacted = []; // lines whose place is proven by a leaf hash, and whose content is not
    this.places = new Map(); // line of events.jsonl -> [sequence, row]
    this.tables = new Map();
    this.second = []; // what Web Crypto says of the signatures
  }

  async run() {
    await this.noting(1, "manifests", () => this.checkBag());
    await this.checkPacketJson();
    this.lines = await this.readLines(5, "data/events.jsonl");
    this.records = [];
    for (let at = 0; at < this.lines.length; at++) {
      this.records.push(null);
      if (this.flooded(5)) continue;
      await this.noting(5, `data/events.jsonl line ${at}`, () => { this.records[at] = checkRecord(this.lines.get(at)); });
    }
    await this.noting(3, "data/packet.json", () => this.checkTrails());
    await this.noting(5, "data/packet.json", () => this.checkRedactions(this.packet.redacted ?? null));
    const unproven = this.lines.length - this.places.size;
    if (unproven) this.fault(5, "data/events.jsonl", `${unproven} record(s) have no proof.`);
    if (Object.keys(this.packet).length) await this.checkTables();
    return this;
  }

  // 1: the manifests

  async checkBag() {
    const names = [...this.files.keys()].sort();
    for (const [manifest, payload] of [["manifest-sha256.txt", true], ["tagmanifest-sha256.txt", false]]) {
      await this.noting(1, manifest, async () => {
        const listed = await this.readManifest(manifest);
        for (const [name, expected] of listed) {
          await this.noting(1, name, async () => {
            rule(this.files.has(name), "a file of the packet is missing.");
            rule(await this.hash(name) === expected, "a file of the packet was changed.");
            rule(name.startsWith("data/") === payload, "the file stands in the wrong manifest.");
            this.count.hashed++;
          });
        }
        for (const name of names.filter((one) => one.startsWith("data/") === payload && !listed.has(one))) {
          if (["tagmanifest-sha256.txt", "transmittal.json"].includes(name)) continue;
          this.fault(1, name, "a file was added that no manifest lists.");
        }
      });
    }
    for (const name of names) { // a listed fetch.txt would have other tools load files from anywhere (RFC 8493 2.2.3)
      if (!name.startsWith("data/") && !TAGS.includes(name)) this.fault(1, name, "a packet has no such tag file.");
    }
    await this.noting(1, "bagit.txt", async () => {
      rule(same(await this.bytes("bagit.txt", MIB), utf8.encode(BAGIT)), "it does not declare BagIt 1.0.");
    });
    const payload = names.filter((name) => name.startsWith("data/"));
    this.count.bytes = payload.reduce((sum, name) => sum + this.files.get(name).size, 0);
    await this.noting(1, "bag-info.txt", async () => { // RFC 8493 2.2.2
      const oxum = `Payload-Oxum: ${this.count.bytes}.${payload.length}`;
      rule(decode(await this.bytes("bag-info.txt", MIB)).split("\n").includes(oxum), `it does not say ${oxum}.`);
    });
  }

  async readManifest(name) {
    const lines = decode(await this.bytes(name, MAX_JSON)).split("\n"), listed = new Map();
    rule(lines.pop() === "", "it does not end with a newline.");
    for (const line of lines) {
      const match = /^([0-9a-f]{64})  (\S.*)$/.exec(line);
      rule(match && !listed.has(match[2]), "a line is not: SHA-256, two spaces, a file once.");
      listed.set(match[2], match[1]);
    }
    return listed;
  }

  // 2: packet.json

  async checkPacketJson() {
    const where = "data/packet.json", raw = await this.tryBytes(2, where, MAX_JSON);
    await this.noting(2, where, async () => {
      const packet = parse(raw);
      rule(isObject(packet) && own(packet, "format") === "auditlib/packet/v1", "a packet of another format.");
      this.packet = packet;
      await this.checkHashes(packet.files);
      await this.checkCatalogs(packet.catalogs);
      const trails = packet.checkpoints, told = decode(await this.tryBytes(1, "bag-info.txt", MIB)).split("\n");
      rule(Array.isArray(trails) && trails.length, "it names no checkpoint.");
      const expected = [
        `Bagging-Date: ${trails.map((trail) => trail.last_sealed_at).sort().at(-1).slice(0, 10)}`,
        `External-Description: ${packet.title}`,
        `External-Identifier: ${await this.hash(where)}`,
        `Source-Organization: ${trails.map((trail) => trail.origin).join(", ")}`,
      ]; // besides these, Payload-Oxum and the end
      if (!expected.every((line) => told.includes(line)) || new Set(told).size !== new Set(expected).size + 2) {
        this.fault(1, "bag-info.txt", "it says something else than packet.json.");
      }
      await this.checkAttachments(packet);
    });
  }

  async checkHashes(stated) {
    rule(isObject(stated), "files is no object of names and hashes.");
    const here = [...this.files.keys()].filter((name) => name.startsWith("data/")).map((name) => name.slice(5));
    const hashed = here.filter((name) => !NOT_HASHED.includes(name));
    for (const name of [...new Set([...hashed, ...Object.keys(stated)])].sort()) {
      await this.noting(2, `data/${name}`, async () => {
        rule(hashed.includes(name), "packet.json names this file, and it is not here.");
        rule(await this.hash(`data/${name}`) === own(stated, name), "this is not the file packet.json names.");
        this.count.named++;
      });
    }
  }

  /** What came from outside the trail is what packet.json lists, whole, and nothing else. */
  async checkAttachments(packet) {
    const lists = own(packet, "attachments") ?? [], files = own(packet, "attached_files") ?? {};
    rule(packet.attachments !== null && packet.attached_files !== null, "it does not list what was attached.");
    rule(Array.isArray(lists) && isObject(files), "it does not list what was attached.");
    const stated = Object.entries(files).map(([name, digest]) => [`attachments/files/${name}`, digest]);
    for (const one of lists) {
      fields(one, {
        declaration_sha256: "text", exported_at: "text", exporter: "text", name: "text", query: "text", rows: "integer",
        sha256: "text", system: "text", time_zone: "text",
      });
      const name = `attachments/${one.name}.csv`;
      stated.push([name, one.sha256], [`${name}.toml`, one.declaration_sha256]);
      await this.noting(2, `data/${name}`, async () => {
        const { rows } = readTable(await this.bytes(`data/${name}`));
        rule(rows.length === one.rows, `it holds ${rows.length} rows; packet.json states ${one.rows}.`);
      });
    }
    const here = Object.entries(packet.files).filter(([name]) => name.startsWith("attachments/"));
    const [expected, found] = [stated, here].map((pairs) => JSON.stringify(pairs.map((pair) => JSON.stringify(pair)).sort()));
    rule(expected === found, "the attachments are not those that packet.json lists.");
  }

  async checkCatalogs(stated) {
    const named = isObject(stated) && Array.isArray(stated.in_force) && own(stated, "answered") !== undefined;
    rule(named, "it does not name the catalogues.");
    const expected = [stated.answered, ...stated.in_force].filter(Boolean).map((digest) => `data/catalogs/${digest}.toml`);
    const here = [...this.files.keys()].filter((name) => name.startsWith("data/catalogs/"));
    if (!expected.every((name) => here.includes(name)) || !here.every((name) => expected.includes(name))) {
      this.fault(2, "data/catalogs/", "the catalogues are not those that packet.json names.");
    }
    for (const name of here) {
      await this.noting(2, name, async () => {
        rule(name === `data/catalogs/${await this.hash(name)}.toml`, "a catalogue is named by its SHA-256.");
      });
    }
  }

  // 3 to 5: checkpoint, seals, records

  async checkTrails() {
    const stated = this.packet.checkpoints;
    const named = Array.isArray(stated) && stated.length && stated.every(isObject);
    rule(named, "packet.json names no checkpoint, so that nothing here is proven.");
    const origins = new Set(stated.map((trail) => String(trail.origin)));
    rule(origins.size === stated.length, "packet.json names two checkpoints of one trail.");
    for (const trail of stated) {
      await this.noting(3, "data/packet.json", () => this.checkTrail(trail, `data/proof/${trail.origin}`));
    }
    const known = new Set([...origins].flatMap((origin) => PROOF_FILES.map((name) => `data/proof/${origin}/${name}`)));
    for (const name of this.files.keys()) {
      if (name.startsWith("data/proof/") && !known.has(name)) this.fault(3, name, "a proof of a trail that packet.json does not name.");
    }
    const numbers = this.seals.map((seal) => seal.sequence);
    if (JSON.stringify(numbers) !== JSON.stringify(this.packet.seals)) {
      this.fault(4, "data/packet.json", "the seals here are not those that packet.json names.");
    }
  }

  async checkTrail(stated, folder) {
    rule(Array.isArray(stated.keys ?? []), "keys is no list.");
    const named = (stated.keys ?? []).map((key) => parseKey(String(key)));
    const note = await this.tryBytes(3, `${folder}/checkpoint`);
    let checkpoint = null;
    await this.noting(3, `${folder}/checkpoint`, async () => {
      checkpoint = checkNote(note, this.keys.length ? this.keys : named);
      this.checkpoints.push(checkpoint);
      const facts = [checkpoint.origin, checkpoint.size, hex(checkpoint.root)];
      rule(JSON.stringify(facts) === JSON.stringify([stated.origin, stated.size, stated.root]), "packet.json names another.");
      const ours = checkpoint.signers.some((key) => key.name === checkpoint.origin); // else A's key could speak for B
      rule(ours, "it is signed by keys of other trails alone.");
      const signers = checkNote(note, [...this.keys, ...named]).signers.map((key) => key.text);
      rule(named.length && named.every((key) => signers.includes(key.text)), "packet.json names a key that did not sign.");
      for (const one of checkpoint.signed) this.second.push(await secondOpinion(one));
      rule(!this.second.includes(false), "this browser's own Ed25519 finds the signature bad, the code of this page good.");
    });
    if (checkpoint) await this.checkProofs(stated, folder, checkpoint);
  }

  async checkProofs(stated, folder, checkpoint) {
    let seals = new Map();
    await this.noting(4, `${folder}/seals.jsonl`, async () => {
      const lines = await this.readLines(4, `${folder}/seals.jsonl`);
      const proof = await this.tryBytes(4, `${folder}/seals-proof.json`, MAX_PROOF);
      seals = await this.checkSeals(lines, proof, checkpoint);
      this.checkChain(folder, lines, seals, checkpoint);
      this.seals.push(...seals.values());
      this.count.seals += checkpoint.size;
      const last = seals.get(checkpoint.size - 1);
      if (last && last.sealed_at !== stated.last_sealed_at) {
        this.fault(4, "data/packet.json", `the last seal is of ${last.sealed_at}, it says otherwise.`);
      }
      this.count.last += last ? 1 : 0;
    });
    const done = new Set(), proofs = await this.readLines(5, `${folder}/inclusion.jsonl`);
    for (let at = 0; at < proofs.length && !this.flooded(5); at++) {
      await this.noting(5, `${folder}/inclusion.jsonl line ${at}`, () => {
        const { sequence, lines, leaf_indexes: rows, blinds } = this.checkInclusion(proofs.get(at), seals);
        rule(!done.has(sequence) && !lines.some((line) => this.places.has(line)), "a batch or a record is proven twice.");
        done.add(sequence);
        lines.forEach((line, i) => this.places.set(line, [plainCell(checkpoint.origin), String(sequence), String(rows[i])]));
        lines.forEach((line, i) => { if (blinds[i].length === 64) this.redacted.push(line); });
      });
    }
    this.count.batches += done.size;
  }

  /** The seals by sequence, once they lead to the checkpoint's root. */
  async checkSeals(lines, proof, checkpoint) {
    const kinds = { hashes: "list", leaf_indexes: "list", tree_size: "integer" };
    const { hashes, leaf_indexes: indexes, tree_size: size } = fields(parse(proof), kinds);
    checkLists(hashes, indexes);
    rule(lines.length === indexes.length, "there are not as many seals as leaves.");
    rule(size === checkpoint.size, `the proof is for a tree of ${size}, the checkpoint of ${checkpoint.size}.`);
    const leaves = indexes.map((_, i) => leafHash(lines.get(i)));
    rule(same(merkleRoot(size, indexes, leaves, hashes), checkpoint.root), "the seals do not lead to the checkpoint's root.");
    const seals = new Map(indexes.map((index, i) => [index, checkSeal(lines.get(i))]));
    rule([...seals].every(([index, seal]) => seal.sequence === index), "a seal states another number than its place.");
    return seals;
  }

  checkChain(folder, lines, seals, checkpoint) {
    const hashes = new Map([[-1, NO_SEAL]]);
    let at = 0;
    for (const [index, seal] of seals) {
      const where = `${folder}/seals.jsonl seal ${index}`, before = hashes.get(index - 1);
      if (seal.origin !== checkpoint.origin) this.fault(4, where, "the seal is of another trail.");
      if (before && seal.previous !== before) this.fault(4, where, "the seal does not carry the hash of the one before.");
      this.count.links += before ? 1 : 0;
      hashes.set(index, hex(sha256(lines.get(at++))));
    }
  }

  /** One batch: its records lead to the root in its seal. */
  checkInclusion(line, seals) {
    rule(line.length <= MAX_PROOF, "a proof that is too long.");
    const proof = fields(parse(line), {
      blinds: "list", hashes: "list", leaf_indexes: "list", lines: "list", sequence: "integer", tree_size: "integer",
    });
    const { blinds, hashes, leaf_indexes: rows, lines, sequence, tree_size: size } = proof;
    checkLists(hashes, rows);
    checkLists([], lines);
    rule(blinds.every((blind) => typeof blind === "string" && BLIND.test(blind)), "a blind is no blind.");
    rule(seals.has(sequence), `the seal of batch ${sequence} is not in the packet.`);
    const batch = seals.get(sequence).batch;
    rule(blinds.length === rows.length && rows.length === lines.length, "there are not as many blinds and lines as leaves.");
    rule(lines.every((at, i) => at > (i ? lines[i - 1] : -1)), "the lines of events.jsonl are not distinct and in order.");
    rule(lines.every((at) => at < this.lines.length), "a line of events.jsonl is named that is not there.");
    rule(size === batch.events, "the tree has another size than the seal states.");
    const leaves = blinds.map((blind, i) => (blind.length === 64 ? unhex(blind) : leafHash(unhex(blind), this.lines.get(lines[i]))));
    rule(hex(merkleRoot(size, rows, leaves, hashes)) === batch.root, "the records do not lead to the root of their batch.");
    return proof;
  }

  /** What was left out is what packet.json says, and it is not here. */
  checkRedactions(stated) {
    const names = stated === null ? [] : stated.fields, lines = stated === null ? [] : stated.lines;
    const redacted = [...this.redacted].sort((a, b) => a - b);
    if (JSON.stringify(lines) !== JSON.stringify(redacted)) {
      this.fault(5, "data/packet.json", "these are not the records from which packet.json says that fields were left out.");
    }
    for (const at of redacted) {
      for (const name of this.records[at] ? names : []) {
        if (hasField(this.records[at].event, String(name))) {
          this.fault(5, `data/events.jsonl line ${at}`, "a field that was left out is here.");
        }
      }
    }
  }

  // 6: the tables

  async checkTables() {
    for (const name of this.files.keys()) {
      if (!name.startsWith("data/tables/") || !name.endsWith(".csv")) continue;
      await this.noting(6, name, async () => { this.tables.set(name.slice(12, -4), readTable(await this.bytes(name))); });
    }
    await this.noting(6, "data/packet.json", async () => {
      if (this.packet.records !== this.lines.length) {
        this.fault(6, "data/events.jsonl", "there are not as many records as packet.json states.");
      }
      const spoken = new Set();
      for (const [name, table] of this.tables) {
        if (table.columns.includes("event_id")) await this.checkRows(`data/tables/${name}.csv`, table, spoken);
      }
      this.checkPopulation(spoken);
      this.checkExceptions();
    });
  }

  /** What a row can say of a record, spelled as tables spell it; a record without a proof has no place. */
  facts(line) {
    const { event, receipt } = this.records[line];
    const facts = [
      event.event_id, event.occurred_at, event.action, event.outcome, receipt.recorded_at, receipt.source, event.actor.type, event.actor.id,
    ].map(plainCell);
    return [...facts, ...(this.places.get(line) ?? [])];
  }

  /** Each row agrees with a record in every column that records have; the lines that rows speak of go into `spoken`. */
  async checkRows(where, table, spoken) {
    const names = [...COLUMNS, ...PLACE].filter((name) => table.columns.includes(name)), known = new Map();
    const picked = names.map((name) => [...COLUMNS, ...PLACE].indexOf(name));
    for (let line = 0; line < this.records.length; line++) {
      if (!this.records[line]) continue;
      const facts = this.facts(line);
      const key = JSON.stringify(picked.map((i) => facts[i] ?? null));
      known.set(key, [...(known.get(key) ?? []), line]);
    }
    const trails = this.checkpoints.map((one) => plainCell(one.origin));
    for (let at = 0; at < table.rows.length; at++) {
      if (trails.length > 1 && !trails.includes(table.rows[at][table.columns.indexOf("trail")])) { // ids count within a trail alone
        this.fault(6, where, `row ${at + 2} names none of the packet's trails as the one that it is of.`);
      }
      if (!table.rows[at][table.columns.indexOf("event_id")]) continue; // an item of a list from outside, which no record speaks of
      const cells = names.map((name) => table.rows[at][table.columns.indexOf(name)]);
      const unplaced = cells.map((cell, i) => (PLACE.includes(names[i]) ? null : cell));
      const lines = new Set([...(known.get(JSON.stringify(cells)) ?? []), ...(known.get(JSON.stringify(unplaced)) ?? [])]);
      if (!lines.size) {
        const id = table.rows[at][table.columns.indexOf("event_id")].slice(0, 140);
        this.fault(6, where, `row ${at + 2}: no record says this of the event ${id}.`);
      }
      for (const line of lines) spoken.add(line);
      this.count.rows++;
      await this.breathe();
    }
  }

  checkPopulation(spoken) {
    const stated = this.packet.population;
    rule(isObject(stated) && isObject(stated.verdicts) && Array.isArray(stated.actions), "population is not built as it must be.");
    const name = `${stated.kind}s`, table = this.tables.get(name), where = `data/tables/${name}.csv`;
    const columns = ["event_id", "source", "verdict"].map((column) => table?.columns.indexOf(column) ?? -1);
    const rows = (table?.rows ?? []).map((row) => columns.map((column) => row[column])), trail = table?.columns.indexOf("trail");
    if (rows.length && columns.includes(-1)) {
      this.fault(6, where, "the table has no column event_id, source or verdict.");
      return;
    }
    const named = rows.map(([id, source], at) => [id, JSON.stringify([table.rows[at][trail] ?? null, source, id])]);
    const events = new Set(named.filter(([id]) => id).map(([, key]) => key));
    for (const [what, expected, found] of [["items", stated.items, rows.length], ["events", stated.events, events.size]]) {
      if (expected !== found) this.fault(6, where, `packet.json states ${JSON.stringify(expected)} ${what}; there are ${found}.`);
    }
    const counted = tally(rows.map(([, , verdict]) => verdict)), told = new Map(Object.entries(stated.verdicts).filter(([, n]) => n));
    if (counted.size !== told.size || ![...told].every(([verdict, n]) => counted.get(verdict) === n)) {
      this.fault(6, where, "the verdicts are not as many as packet.json states.");
    }
    this.count.items = rows.length;
    const utc = this.packet.period?.utc;
    rule(isObject(utc), "period is not built as it must be.");
    const [since, until] = [utc.since ?? null, utc.until ?? null].map((end) => (end === null ? null : moment(end)));
    this.records.forEach((record, line) => {
      if (!record || spoken.has(line) || record.event.outcome !== "success" || !stated.actions.includes(record.event.action)) return;
      const at = moment(record.event.occurred_at);
      if ((since === null || at >= since) && (until === null || at < until)) {
        this.fault(6, "data/events.jsonl", `line ${line} is a ${record.event.action} of the period, and no table speaks of it.`);
      }
    });
  }

  checkExceptions() {
    const none = { columns: [], rows: [] }, table = this.tables.get("exceptions") ?? none, where = "data/tables/exceptions.csv";
    if (table.rows.length !== this.packet.exceptions) {
      this.fault(6, where, `packet.json states ${JSON.stringify(this.packet.exceptions)}; there are ${table.rows.length}.`);
    }
    const population = this.tables.get(`${this.packet.population?.kind}s`) ?? none, verdict = population.columns.indexOf("verdict");
    const tested = population.rows.filter((row) => !["pass", "not-testable"].includes(row[verdict]));
    const columns = table.rows.length ? table.columns.filter((name) => !tested.length || population.columns.includes(name)) : [];
    const [expected, found] = [[population, tested], [table, table.rows]].map(([one, rows]) => {
      const places = columns.map((name) => one.columns.indexOf(name));
      return tally(rows.map((row) => JSON.stringify(places.map((place) => row[place]))));
    });
    if (expected.size !== found.size || ![...expected].every(([row, n]) => found.get(row) === n)) {
      this.fault(6, where, "these are not the items of the population whose verdict is no pass.");
    }
  }

  // what cannot be seen here

  unchecked() {
    const told = [];
    if (!this.keys.length) {
      told.push("the signature was checked only against the key that the packet itself names; that proves nothing alone: "
        + "paste the key that you got by another way");
    }
    told.push(
      "this page came inside the packet: whoever forges a packet can put a page into it that says anything. Open a "
        + "report.html or verify.py that you got by another way, or run auditlib packet verify",
      "Parquet, XLSX and PDF files, the report and the notebook are checked by their hashes only",
      "verdicts, entitlements, reasons and the sentences of packet.json are not worked out again; a forgery of these with "
        + "the manifests put right shows in the packet digest that you were told, or when the packet is built again "
        + "(auditlib packet reproduce), not here",
    );
    if (this.packet.attachments?.length || Object.keys(this.packet.attached_files ?? {}).length) {
      told.push("attachments are evidence from outside the trail: they are checked by their hashes and numbers of rows only");
    }
    if (!this.packet.scope?.every_seal_of_period) told.push("not every seal of the period is here: completeness needs the vault");
    told.push("whether a record was left out of the population needs the vault");
    for (const [name, table] of [...this.tables].sort()) {
      if (!table.rows.length || table.columns.includes("event_id")) continue;
      told.push(`tables/${name}.csv names no events: it is checked by its hash only`);
    }
    if (this.count.last < this.checkpoints.length) told.push("the last seal is not here: when it was sealed rests on packet.json");
    told.push("which catalogue was in force, and the versions named, rest on packet.json");
    if (this.redacted.length) {
      told.push(`${this.redacted.length} of ${this.lines.length} records lack fields that were left out: that a record was `
        + "sealed at each of these places is proven, what it says rests on whoever made the packet");
    }
    if (this.files.has("transmittal.json")) told.push("transmittal.json is not read: who prepared and reviewed the packet is not checked");
    told.push("inclusion proves that a record was sealed, not that every act was recorded");
    return told;
  }

  /** What was counted, a sentence or more for each check. */
  evidence() {
    const n = (number) => number.toLocaleString("en-US"), c = this.count;
    const signers = this.checkpoints.flatMap((one) => one.signers.map((key) => key.text));
    const second = this.second.includes(true) ? "The browser's own Ed25519 (Web Crypto) agrees."
      : "This browser's Web Crypto has no Ed25519; the signature was checked by the code of this page (RFC 8032).";
    const exceptions = this.tables.get("exceptions")?.rows.length ?? 0, left = this.redacted.length;
    return {
      1: [`${n(c.hashed)} files hashed with SHA-256 and found as listed, ${n(c.bytes)} bytes under data/; `
        + `${n(c.twice)} files were hashed a second time by the browser's own Web Crypto.`],
      2: [`${n(c.named)} files have the hash that packet.json names.`],
      3: [...this.checkpoints.map((one) => `${one.origin}: ${n(one.size)} seals, root ${hex(one.root)}.`),
        ...(signers.length ? [`Signed by ${signers.join(", ")}.`, second] : ["No signature was verified."]),
        this.keys.length ? "The key is one that you gave." : "The key is the one that the packet itself names: this proves nothing alone."],
      4: [`${n(this.seals.length)} of ${n(c.seals)} seals are here and lead to the root; `
        + `${n(c.links)} links to the seal before were compared.`],
      5: [`${n(this.places.size - left)} of ${n(this.lines.length)} records lead to the roots of ${n(c.batches)} sealed batches.`,
        ...(left ? [`Of ${n(left)} more, fields were left out: a record was sealed at each of these places, but what is shown `
          + "of it here is not proven to be what it says."] : [])],
      6: [`${n(this.tables.size)} CSV tables, ${n(c.rows)} rows held against records; ${n(c.items)} items, `
        + `${n(exceptions)} potential exceptions.`],
    };
  }

  // helpers

  fault(check, where, message) {
    this.seen[check] = (this.seen[check] ?? 0) + 1;
    if (this.seen[check] <= MAX_FAULTS) this.faults.push({ check, where, message });
  }

  flooded(check) {
    return (this.seen[check] ?? 0) >= MAX_FAULTS;
  }

  /** What fails inside is noted, and the checks go on behind it. */
  async noting(check, where, work) {
    try {
      await work();
    } catch (error) {
      const strange = `it is not built as it must be (${error.name}: ${error.message}).`;
      this.fault(check, where, error instanceof Fault ? error.message : strange);
    }
    await this.breathe();
  }

  /** Without a worker the page must stay awake; 40 ms is less than anybody notices. */
  async breathe() {
    if (performance.now() - this.breath < 40) return;
    this.progress(this.read, this.total);
    await new Promise((go) => setTimeout(go));
    this.breath = performance.now();
  }

  /** A whole file. */
  async bytes(name, limit = MAX_FILE) {
    const file = this.files.get(name);
    rule(file, "the packet has no such file.");
    rule(file.size <= limit, `${file.size} bytes; at most ${limit} are read.`);
    const whole = new Uint8Array(file.size);
    let at = 0;
    for await (const chunk of chunks(file)) {
      rule(at + chunk.length <= file.size, "the file is longer than the zip states.");
      whole.set(chunk, at);
      at += chunk.length;
    }
    rule(at === file.size, "the file is shorter than it was.");
    return whole;
  }

  async tryBytes(check, name, limit = MAX_FILE) {
    let bytes = new Uint8Array(0);
    await this.noting(check, name, async () => { bytes = await this.bytes(name, limit); });
    return bytes;
  }

  async readLines(check, name) {
    const bytes = await this.tryBytes(check, name), ends = [];
    for (let at = bytes.indexOf(10); at >= 0 && ends.length <= MAX_LINES; at = bytes.indexOf(10, at + 1)) ends.push(at);
    if (ends.length > MAX_LINES) {
      this.fault(check, name, "more than 2,000,000 lines are not read.");
      ends.length = 0;
    } else if (bytes.length && ends.at(-1) !== bytes.length - 1) this.fault(check, name, "the file does not end with a newline.");
    return { length: ends.length, get: (line) => bytes.subarray(line ? ends[line - 1] + 1 : 0, ends[line]) };
  }

  /** The SHA-256 of a file in hex, worked out once; of one that is not large a second time by Web Crypto. */
  async hash(name) {
    if (!this.hashes.has(name)) {
      const hasher = new Sha256(), file = this.files.get(name);
      if (file.size <= TWICE) {
        const whole = await this.bytes(name), native = globalThis.crypto?.subtle;
        hasher.update(whole);
        this.read += whole.length;
        if (native) {
          const other = new Uint8Array(await native.digest("SHA-256", whole));
          rule(same(other, sha256(whole)), "the browser's own SHA-256 and that of this page differ.");
          this.count.twice++;
        }
      } else {
        for await (const chunk of chunks(file)) {
          hasher.update(chunk);
          this.read += chunk.length;
          await this.breathe();
        }
      }
      this.hashes.set(name, hex(hasher.digest()));
    }
    return this.hashes.get(name);
  }
}

/** The lists of a proof: hashes in hex, and numbers from 0. */
function checkLists(hashes, indexes) {
  rule(hashes.every((text) => typeof text === "string" && HASH.test(text)), "a hash is no SHA-256 in hex.");
  rule(indexes.every((index) => Number.isSafeInteger(index) && index >= 0), "an index is no number from 0.");
}

/** A text as tables write it: what a spreadsheet would run as a formula has an apostrophe before it. */
function plainCell(text) {
  return FORMULA.test(text) ? "'" + text : text;
}

function readTable(bytes) {
  const [columns, ...rows] = readCsv(bytes);
  rule(columns?.length && new Set(columns).size === columns.length, "there are no columns, or one stands twice.");
  rule(rows.every((row) => row.length === columns.length), "a row has more or fewer cells than there are columns.");
  return { columns, rows };
}

function tally(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

/** What the browser's own Ed25519 says of a signature: true, false, or null where it has none. */
async function secondOpinion({ key, signature, message }) {
  try {
    const native = await crypto.subtle.importKey("raw", key.public, { name: "Ed25519" }, false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", native, signature, message);
  } catch {
    return null;
  }
}

// --- published vectors -----------------------------------------------------------------------------------------------

// RFC 8032 7.1, tests 1 to 3: public key, message, signature.
const RFC_8032 = [
  ["d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"],
  ["3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"],
  ["fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"],
];
// FIPS 180-4: SHA-256 of "abc". RFC 6962: the root of the first 7 of the entries that implementations publish.
const ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"];
const SEVEN = "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c";

/** The published vectors, and that what differs from them fails; before every check of a packet. */
function selfTest() {
  const flipped = (bytes, at) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
  const signatures = RFC_8032.every(([key, message, signature]) => {
    const [k, m, s] = [unhex(key), unhex(message), unhex(signature)];
    return ed25519(k, s, m) && !ed25519(k, flipped(s, 0), m) && !ed25519(k, flipped(s, 32), m) && !ed25519(k, s, joined(m, [0]));
  });
  const leaves = ENTRIES.map((entry) => leafHash(unhex(entry)));
  const root = merkleRoot(7, [0, 1, 2, 3, 4, 5, 6], leaves, []);
  const hole = merkleRoot(7, [2, 4, 5, 6], [2, 4, 5, 6].map((at) => leaves[at]), [hex(sha256(NODE, leaves[0], leaves[1])), hex(leaves[3])]);
  return signatures && hex(sha256(utf8.encode("abc"))) === ABC && hex(root) === SEVEN && hex(hole) === SEVEN;
}

/** What was chosen, the keys as pasted, the digest that the page prints -> everything the page shows. */
async function checkPacket(given, keyText, printed, progress) {
  try {
    if (!selfTest()) throw new Refused("The published vectors fail: this browser, or this page, is broken.");
    let keys;
    try { keys = parseKeys(keyText); } catch (error) { throw new Refused(`The key cannot be used: ${error.message}`); }
    const checker = await new Checker(await openPacket(given), keys, progress).run();
    const digests = {};
    for (const [what, name] of [["Evidence digest", "data/packet.json"], ["Packet digest", "tagmanifest-sha256.txt"]]) {
      if (checker.files.has(name)) digests[what] = await checker.hash(name).catch(() => "cannot be read");
    }
    const evidence = checker.evidence();
    const open = [...(keys.length ? [] : ["3"]), ...(checker.redacted.length ? ["5"] : [])];
    return {
      confirmed: keys.length > 0,
      redacted: checker.redacted.length,
      faults: Object.values(checker.seen).reduce((a, b) => a + b, 0),
      files: [...new Set(checker.faults.map((fault) => fault.where.split(" ")[0]))],
      digests,
      speaks: digests["Evidence digest"] === printed,
      checks: Object.entries(CHECKS).map(([number, title]) => ({
        number, title, evidence: evidence[number], seen: checker.seen[number] ?? 0,
        state: checker.seen[number] ? "fault" : open.includes(number) ? "open" : "pass",
        faults: checker.faults.filter((fault) => fault.check === Number(number)),
      })),
      unchecked: checker.unchecked(),
    };
  } catch (error) {
    const told = error instanceof Refused || error instanceof Fault;
    return { refused: told ? error.message : `This cannot be read (${error.name}: ${error.message}).` };
  }
}
