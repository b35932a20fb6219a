// A certified OpenID provider (npm's oidc-provider) on 127.0.0.1, with its own built-in sign-in form that takes any name.
//
//     node provider.mjs '{"client": "...", "secret": "...", "redirects": ["..."]}'
//
// Prints its issuer. A person's e-mail address is the name they gave, verified unless the name begins with "unverified".
// POST /forge with the name of a fault makes every ID token after it carry that fault; with "" they are real again.
import { createHmac, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const options = JSON.parse(process.argv[2]);
const pair = () => generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const key = pair();
const server = createServer();
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
let fault = "";

const provider = new Provider(issuer, {
  clients: [{ client_id: options.client, client_secret: options.secret, redirect_uris: options.redirects }],
  jwks: { keys: [{ ...key.export({ format: "jwk" }), kid: "known", use: "sig", alg: "RS256" }] },
  cookies: { keys: ["a key for tests"] },
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: id, email_verified: !id.startsWith("unverified") }),
  }),
});

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const signed = (header, claims, by) => {
  const text = `${encoded(header)}.${encoded(claims)}`;
  return `${text}.${by(text).toString("base64url")}`;
};
const rsa = (private_) => (text) => sign("sha256", Buffer.from(text), private_);
const pem = createPublicKey(key).export({ type: "spki", format: "pem" });
const real = { alg: "RS256", typ: "JWT", kid: "known" };
const faults = {
  "another claim": (claims, token) => [token.split(".")[0], encoded({ ...claims, sub: "admin" }), token.split(".")[2]].join("."),
  "another key": (claims) => signed(real, claims, rsa(pair())),
  "no key": (claims) => `${encoded({ alg: "none" })}.${encoded(claims)}.`,
  "no key, a known name": (claims) => `${encoded({ alg: "none", kid: "known" })}.${encoded(claims)}.`,
  "the public key as a password": (claims) =>
    signed({ ...real, alg: "HS256" }, claims, (text) => createHmac("sha256", pem).update(text).digest()),
  "another audience": (claims) => signed(real, { ...claims, aud: "somebody-else" }, rsa(key)),
  "another party": (claims) => signed(real, { ...claims, azp: "somebody-else" }, rsa(key)),
  "another issuer": (claims) => signed(real, { ...claims, iss: "https://id.example.org" }, rsa(key)),
  "expired": (claims) => signed(real, { ...claims, iat: 1, exp: 2 }, rsa(key)),
  "no expiry": ({ exp, ...claims }) => signed(real, claims, rsa(key)),
  "another nonce": (claims) => signed(real, { ...claims, nonce: "of another sign-in" }, rsa(key)),
  "no nonce": ({ nonce, ...claims }) => signed(real, claims, rsa(key)),
  "another subject": (claims) => signed(real, { ...claims, sub: "somebody-else" }, rsa(key)),
  "none": () => undefined,
};

provider.use(async (context, next) => {
  await next();
  if (fault && context.path === "/token" && context.body?.id_token) {
    const token = context.body.id_token;
    const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    context.body = { ...context.body, id_token: faults[fault](claims, token) };
  }
});

const answer = provider.callback();
server.on("request", (request, response) => {
  if (request.method !== "POST" || request.url !== "/forge") return answer(request, response);
  let text = "";
  request.on("data", (part) => (text += part));
  request.on("end", () => {
    fault = text;
    response.statusCode = text === "" || text in faults ? 200 : 400;
    response.end();
  });
});
console.log(issuer);
