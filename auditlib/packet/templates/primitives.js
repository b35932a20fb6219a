"use strict";
/* Hashes, signatures, trees, canonical JSON, CSV, times and zips: pure functions over bytes, nothing of the page.

   One file of three that report.html holds in one script: primitives.js, checks.js, page.js. The browser's own Web
   Crypto gives a second opinion (checks.js); these run everywhere, at once, and always the same way. */

/** The evidence is wrong, or is not built as it must be: one sentence. */
class Fault extends Error {}

/** There is nothing to check: one sentence. */
class Refused extends Error {}

function rule(holds, sentence) {
  if (!holds) throw new Fault(sentence);
}

// --- SHA-256 and SHA-512 (FIPS 180-4) --------------------------------------------------------------------------------

/** Constants as FIPS 180-4 4.2 and 5.3 define them: the first 64 bits of the fractional parts of the square roots of
    the first 8 primes and of the cube roots of the first 80. SHA-256 takes the upper halves of the same. */
const [SQUARE_ROOTS, CUBE_ROOTS] = (() => {
  const primes = [];
  for (let n = 2; primes.length < 80; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  const fraction = (prime, power) => {
    const scaled = BigInt(prime) << (64n * power);
    let low = 0n, high = 1n << 70n; // the root of the scaled number, found by halving
    while (high - low > 1n) {
      const middle = (low + high) / 2n;
      if (middle ** power <= scaled) low = middle; else high = middle;
    }
    return BigInt.asUintN(64, low);
  };
  return [primes.slice(0, 8).map((prime) => fraction(prime, 2n)), primes.map((prime) => fraction(prime, 3n))];
})();
const upper = (words) => Int32Array.from(words, (word) => Number(BigInt.asIntN(32, word >> 32n)));
const START_256 = upper(SQUARE_ROOTS), K_256 = upper(CUBE_ROOTS.slice(0, 64));

/** SHA-256 of any number of pieces, synchronous: a million `subtle.digest` calls would take minutes. */
class Sha256 {
  constructor() {
    this.state = new Int32Array(8);
    this.words = new Int32Array(64);
    this.block = new Uint8Array(64);
    this.reset();
  }

  reset() {
    this.state.set(START_256);
    this.held = this.length = 0;
    return this;
  }

  update(bytes) {
    let at = 0;
    this.length += bytes.length;
    if (this.held) {
      at = Math.min(64 - this.held, bytes.length);
      this.block.set(at === bytes.length ? bytes : bytes.subarray(0, at), this.held);
      this.held += at;
      if (this.held < 64) return this;
      this.compress(this.block, 0);
      this.held = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.compress(bytes, at);
    if (at < bytes.length) {
      this.block.set(bytes.subarray(at));
      this.held = bytes.length - at;
    }
    return this;
  }

  digest() {
    const length = this.length, block = this.block;
    block[this.held] = 0x80;
    block.fill(0, this.held + 1);
    if (this.held >= 56) {
      this.compress(block, 0);
      block.fill(0);
    }
    const view = new DataView(block.buffer);
    view.setUint32(56, Math.floor(length / 2 ** 29)); // the length in bits, 64 bits wide
    view.setUint32(60, (length << 3) >>> 0);
    this.compress(block, 0);
    const out = new Uint8Array(32), told = new DataView(out.buffer);
    this.state.forEach((word, i) => told.setInt32(4 * i, word));
    return out;
  }

  compress(bytes, at) {
    const w = this.words, s = this.state, k = K_256;
    for (let i = 0; i < 16; i++, at += 4) {
      w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (((w[i - 16] + s0) | 0) + ((w[i - 7] + s1) | 0)) | 0;
    }
    let a = s[0] | 0, b = s[1] | 0, c = s[2] | 0, d = s[3] | 0, e = s[4] | 0, f = s[5] | 0, g = s[6] | 0, h = s[7] | 0;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = ((((h + s1) | 0) + (g ^ (e & (f ^ g))) | 0) + ((k[i] + w[i]) | 0)) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0;
      d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
  }
}

const HASHER = new Sha256();

function sha256(...pieces) {
  HASHER.reset();
  for (const piece of pieces) HASHER.update(piece);
  return HASHER.digest();
}

/** SHA-512 of a short message; only signatures need it, so it is written to be read and not to be fast. */
function sha512(message) {
  const u64 = (n) => BigInt.asUintN(64, n);
  const turn = (n, by) => u64((n >> by) | (n << (64n - by)));
  const padded = new Uint8Array(Math.ceil((message.length + 17) / 128) * 128);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(message.length) * 8n);
  const state = [...SQUARE_ROOTS];
  for (let at = 0; at < padded.length; at += 128) {
    const w = [];
    for (let i = 0; i < 80; i++) {
      if (i < 16) { w.push(view.getBigUint64(at + 8 * i)); continue; }
      const x = w[i - 15], y = w[i - 2];
      const s0 = turn(x, 1n) ^ turn(x, 8n) ^ (x >> 7n), s1 = turn(y, 19n) ^ turn(y, 61n) ^ (y >> 6n);
      w.push(u64(w[i - 16] + s0 + w[i - 7] + s1));
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 80; i++) {
      const t1 = h + (turn(e, 14n) ^ turn(e, 18n) ^ turn(e, 41n)) + ((e & f) ^ (~e & g)) + CUBE_ROOTS[i] + w[i];
      const t2 = (turn(a, 28n) ^ turn(a, 34n) ^ turn(a, 39n)) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, u64(d + t1), c, b, a, u64(t1 + t2)];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] = u64(state[i] + word); });
  }
  const out = new DataView(new ArrayBuffer(64));
  state.forEach((word, i) => out.setBigUint64(8 * i, word));
  return new Uint8Array(out.buffer);
}

// --- bytes -----------------------------------------------------------------------------------------------------------

const HEX = Array.from({ length: 256 }, (_, n) => n.toString(16).padStart(2, "0"));
const hex = (bytes) => { let text = ""; for (const byte of bytes) text += HEX[byte]; return text; };
const utf8 = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // a mark stays: one text, one spelling

function unhex(text) {
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.substr(2 * i, 2), 16);
  return bytes;
}

function decode(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    throw new Fault("it is not UTF-8.");
  }
}

/** Base64 -> bytes; there is one spelling. */
function unbase64(text) {
  let raw = "";
  try { raw = atob(text); } catch { throw new Fault("this is not base64."); }
  rule(btoa(raw) === text, "base64 that does not re-encode to itself.");
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const joined = (...pieces) => Uint8Array.from(pieces.flatMap((piece) => [...piece])); // short pieces alone

// --- Ed25519, verification only (RFC 8032) ---------------------------------------------------------------------------

const P = 2n ** 255n - 19n; // 5.1: the field
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n; // of the base point
const mod = (n) => ((n % P) + P) % P;
const little = (bytes) => BigInt("0x" + (hex(Uint8Array.from(bytes).reverse()) || "0"));

function power(base, exponent) {
  let out = 1n;
  for (base = mod(base); exponent; exponent >>= 1n, base = base * base % P) if (exponent & 1n) out = out * base % P;
  return out;
}

const D = mod(-121665n * power(121666n, P - 2n)); // of the curve -x^2 + y^2 = 1 + d x^2 y^2
const ROOT_OF_MINUS_1 = power(2n, (P - 1n) / 4n);

/** 5.1.4, in extended coordinates [x, y, z, t]; it holds for equal points too, so it doubles as well. */
function pointAdd(p, q) {
  const a = mod((p[1] - p[0]) * (q[1] - q[0])), b = mod((p[1] + p[0]) * (q[1] + q[0]));
  const c = mod(2n * p[3] * q[3] * D), d = mod(2n * p[2] * q[2]);
  const e = b - a, f = d - c, g = d + c, h = b + a;
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

/** 5.1.3 -> a point, or null. As verify.py and OpenSSL do it: a y past the prime is reduced. */
function pointDecode(bytes) {
  const whole = little(bytes), sign = whole >> 255n, y = mod(whole & (2n ** 255n - 1n));
  const u = mod(y * y - 1n), v = mod(D * y * y + 1n);
  let x = mod(u * power(v, 3n) * power(u * power(v, 7n), (P - 5n) / 8n));
  if (mod(v * x * x) !== u) x = mod(x * ROOT_OF_MINUS_1);
  if (mod(v * x * x) !== u) return null;
  if ((x & 1n) !== sign) x = mod(-x);
  return [x, y, 1n, mod(x * y)];
}

const BASE = pointDecode(unhex("58" + "66".repeat(31))); // 5.1: y = 4/5, x even

/** Whether the signature is good: 5.1.7 without the cofactor, S below the order, R compared as bytes. */
function ed25519(key, signature, message) {
  if (key.length !== 32 || signature.length !== 64) return false;
  const a = pointDecode(key), s = little(signature.subarray(32));
  if (a === null || s >= ORDER) return false;
  const k = little(sha512(joined(signature.subarray(0, 32), key, message))) % ORDER;
  const minusA = [mod(-a[0]), a[1], 1n, mod(-a[3])], terms = [null, BASE, minusA, pointAdd(BASE, minusA)];
  let r = [0n, 1n, 1n, 0n];
  for (let bit = 252n; bit >= 0n; bit--) { // S B - k A, both multiples in one pass
    r = pointAdd(r, r);
    const term = terms[Number((s >> bit) & 1n) + 2 * Number((k >> bit) & 1n)];
    if (term) r = pointAdd(r, term);
  }
  const inverse = power(r[2], P - 2n), x = mod(r[0] * inverse), y = mod(r[1] * inverse);
  return little(signature.subarray(0, 32)) === (y | ((x & 1n) << 255n));
}

// --- Merkle trees (RFC 6962 2.1) -------------------------------------------------------------------------------------

const LEAF = Uint8Array.of(0), NODE = Uint8Array.of(1);
const leafHash = (...pieces) => sha256(LEAF, ...pieces);

/** The root of a tree with holes: `leaves` are the hashes at `indexes`; a subtree that shows none is the next of
    `hashes` (hex), left to right. */
function merkleRoot(size, indexes, leaves, hashes) {
  const rising = indexes.every((index, i) => index > (i ? indexes[i - 1] : -1));
  rule(indexes.length && rising && indexes[indexes.length - 1] < size,
    "the leaf indexes are not distinct, rising and within the tree.");
  let used = 0;
  const walk = (start, width, low, high) => { // indexes[low..high) lie in this subtree; at most 54 levels deep
    if (low === high) {
      rule(used < hashes.length, "the proof has too few hashes.");
      return unhex(hashes[used++]);
    }
    if (width === 1) return leaves[low];
    let left = 1; // the largest power of two below the width
    while (left * 2 < width) left *= 2;
    let middle = low, end = high; // the first index that is not left of the split, by halving
    while (middle < end) {
      const at = (middle + end) >> 1;
      if (indexes[at] < start + left) middle = at + 1; else end = at;
    }
    const one = walk(start, left, low, middle), other = walk(start + left, width - left, middle, high);
    return sha256(NODE, one, other);
  };
  const root = walk(0, size, 0, indexes.length);
  rule(used === hashes.length, "the proof has hashes left over.");
  return root;
}

// --- canonical JSON (RFC 8785) ---------------------------------------------------------------------------------------

const MAX_LEVELS = 100; // of nested JSON; packets have 6
const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** A JSON value -> its one spelling. RFC 8785 takes ECMAScript's numbers, strings and order of keys. */
function canonical(value, level = 0) {
  rule(level <= MAX_LEVELS, "JSON nested past 100 levels.");
  if (typeof value === "string") {
    rule(!/\p{Surrogate}/u.test(value), "JSON with half a character.");
    return JSON.stringify(value);
  }
  if (typeof value === "number") {
    const text = JSON.stringify(value);
    rule(Number.isFinite(value) && (Number.isSafeInteger(value) || !/^-?\d+$/.test(text)), "JSON with an unsafe number.");
    return text;
  }
  if (Array.isArray(value)) return "[" + value.map((item) => canonical(item, level + 1)).join(",") + "]";
  if (!isObject(value)) return String(value); // null, true, false
  const keys = Object.keys(value).sort(); // by UTF-16 code units
  return "{" + keys.map((key) => canonical(key, level + 1) + ":" + canonical(value[key], level + 1)).join(",") + "}";
}

/** Canonical JSON bytes -> a value. What is spelled otherwise (a key twice, 1.0, a space) does not write back to the
    same text, and is a Fault: the comparison sees what JSON.parse forgets. */
function parse(bytes) {
  const text = decode(bytes);
  let value;
  try { value = JSON.parse(text); } catch { throw new Fault("no JSON that can be read."); }
  rule(canonical(value) === text, "JSON that is not written canonically (RFC 8785).");
  return value;
}

/** The fields of an object that has exactly these: {name: "text|number|..."}, kinds as `kindOf` names them. */
function fields(value, kinds) {
  const names = Object.keys(kinds);
  rule(isObject(value) && Object.keys(value).length === names.length && names.every((name) => Object.hasOwn(value, name)),
    `this is no object with the fields ${names.join(", ")} and no others.`);
  for (const name of names) {
    rule(kinds[name].split("|").includes(kindOf(value[name])), `${name} is of another type than it must be.`);
  }
  return value;
}

function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "list";
  if (typeof value === "number") return Number.isSafeInteger(value) ? "integer" : "double";
  return { string: "text", boolean: "boolean", object: "object" }[typeof value];
}

// --- CSV (RFC 4180) --------------------------------------------------------------------------------------------------

const MAX_ROWS = 2_000_000; // rows of one table
const MAX_CELL = 131_072; // characters; Python's csv module reads no more

/** A table's bytes -> rows of cells; a byte order mark may stand before it. */
function readCsv(bytes) {
  const text = decode(bytes).replace(/^\ufeff/, ""), rows = [];
  let row = [], at = 0;
  const close = () => { rule(rows.push(row) <= MAX_ROWS + 1, "more rows than are read."); row = []; };
  while (at < text.length) {
    let cell = "";
    if (text[at] === '"') {
      for (at++; ; at += 2) { // a quote twice is one quote
        const end = text.indexOf('"', at);
        rule(end >= 0, "not a CSV table: a quote that nothing closes.");
        cell += text.slice(at, end);
        at = end;
        if (text[at + 1] !== '"') break;
        cell += '"';
      }
      at++;
      rule(at === text.length || ",\r\n".includes(text[at]), "not a CSV table: text behind a closing quote.");
    } else if (!",\r\n".includes(text[at])) {
      const end = at;
      while (at < text.length && !",\r\n".includes(text[at])) at++;
      cell = text.slice(end, at);
    } else if (text[at] !== "," && !row.length) { // an empty line has no cells
      at += text.startsWith("\r\n", at) ? 2 : 1;
      close();
      continue;
    }
    rule(cell.length <= MAX_CELL, "not a CSV table: a cell is too long.");
    row.push(cell);
    if (text[at] === ",") {
      at++;
      if (at === text.length || "\r\n".includes(text[at])) row.push("");
    }
    if (at === text.length) close();
    else if ("\r\n".includes(text[at])) {
      at += text.startsWith("\r\n", at) ? 2 : 1;
      close();
    }
  }
  return rows;
}

// --- times (RFC 3339) ------------------------------------------------------------------------------------------------

const TIME = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;

/** A time with an offset -> microseconds since 1970 UTC (a BigInt), digits past six cut off. */
function moment(text) {
  const match = typeof text === "string" && text.length <= 64 ? TIME.exec(text) : null;
  rule(match, `${String(text).slice(0, 64)} is no time.`);
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number);
  const at = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  rule(year >= 1 && at.toISOString().slice(0, 19) === text.slice(0, 19), `${text} is no time.`);
  const hours = Number(match[9] ?? 0), minutes = Number(match[10] ?? 0);
  rule(hours <= 23 && minutes <= 59, `${text} has an offset past 23:59.`);
  const shift = (hours * 60 + minutes) * (match[8] === "-" ? -60_000 : 60_000);
  const micros = BigInt(at.getTime() - shift) * 1000n + BigInt((match[7] ?? "").slice(0, 6).padEnd(6, "0"));
  rule(micros >= 0n && micros < 253_402_300_800_000_000n, `${text} is outside the years 1970 to 9999.`);
  return micros;
}

/** The same of the one canonical spelling: UTC, whole seconds or exactly six digits that are not all zero. */
function canonicalTime(text) {
  const micros = moment(text), fraction = micros % 1_000_000n;
  const spelled = text.slice(0, 19) + (fraction ? "." + String(fraction).padStart(6, "0") : "") + "Z";
  rule(text === spelled, `${text} is not written as times are.`);
  return micros;
}
