// Two users with matrix-js-sdk and its Rust crypto, on one server or on two (the second user's is the second argument): what they say is
// encrypted, they verify each other and their devices, and a new device reads what was said before it out of the key backup.

import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

const [homeUrl, awayUrl = homeUrl] = process.argv.slice(2);
const PASSWORD = "correct horse battery staple";
const report = (text) => process.stdout.write(`${text}\n`);
for (const level of ["log", "info", "warn", "error", "debug", "trace"]) console[level] = () => {};
logger.disableAll();

async function until(what, condition, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${seconds} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// A client that is logged in, with encryption. `storage` holds the user's key of the secret storage, shared by their devices.
async function start(baseUrl, login, storage) {
  const client = sdk.createClient({
    baseUrl,
    userId: login.user_id,
    accessToken: login.access_token,
    deviceId: login.device_id,
    cryptoCallbacks: {
      getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], storage.key],
      cacheSecretStorageKey: (_id, _info, key) => (storage.key = key),
    },
    verificationMethods: ["m.sas.v1"],
  });
  await client.initRustCrypto({ useIndexedDB: false });
  client.setGlobalErrorOnUnknownDevices?.(false);
  await client.startClient({ initialSyncLimit: 50 });
  await until("the first sync", () => client.isInitialSyncComplete());
  return client;
}

async function register(baseUrl, name, storage) {
  const bare = sdk.createClient({ baseUrl });
  const login = await bare.registerRequest({
    username: `${name}${Date.now()}`,
    password: PASSWORD,
    auth: { type: "m.login.dummy" },
  });
  return start(baseUrl, login, storage);
}

async function logIn(baseUrl, userId, storage) {
  const bare = sdk.createClient({ baseUrl });
  const identifier = { type: "m.id.user", user: userId };
  const login = await bare.loginRequest({ type: "m.login.password", identifier, password: PASSWORD });
  return start(baseUrl, login, storage);
}

async function setUp(client) {
  const crypto = client.getCrypto();
  // The first set of keys needs no password.
  await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: async (send) => send(null) });
  await crypto.bootstrapSecretStorage({
    createSecretStorageKey: () => crypto.createRecoveryKeyFromPassphrase(),
    setupNewKeyBackup: true,
    setupNewSecretStorage: true,
  });
  assert.ok(await crypto.isCrossSigningReady());
}

const events = (client, room) => client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];
const find = (client, room, text) => events(client, room).find((event) => event.getContent().body === text);

// Says something, and sees to it that others read it and the server does not.
async function say(client, room, text, readers) {
  const { event_id } = await client.sendTextMessage(room, text);
  const raw = await client.fetchRoomEvent(room, event_id);
  assert.equal(raw.type, "m.room.encrypted");
  assert.ok(!JSON.stringify(raw).includes(text));
  for (const reader of readers) await until(`${reader.getUserId()} ${reader.getDeviceId()} reads ${text}`, () => find(reader, room, text));
  return raw.content.session_id;
}

// Both sides compare short texts and say that they match.
async function verify(client, request, other, incoming) {
  await until("a request", () => incoming.request);
  await incoming.request.accept();
  await until("both are ready", () => request.phase === VerificationPhase.Ready);
  const show = (verifier) => verifier.on(VerifierEvent.ShowSas, (sas) => sas.confirm());
  const verifier = await request.startVerification("m.sas.v1");
  show(verifier);
  const theirs = await until("the other side starts", () => incoming.request.verifier);
  show(theirs);
  await Promise.all([verifier.verify(), theirs.verify()]);
  await until("the request is done", () => request.phase === VerificationPhase.Done);
}

function expectRequest(client) {
  const incoming = {};
  client.once(CryptoEvent.VerificationRequestReceived, (request) => (incoming.request = request));
  return incoming;
}

const [aliceSecrets, bobSecrets] = [{}, {}];
const alice = await register(homeUrl, "alice", aliceSecrets);
const bob = await register(awayUrl, "bob", bobSecrets);
const clients = [alice, bob];
try {
  await setUp(alice);
  await setUp(bob);
  report("ok      cross-signing, secret storage and key backup are set up");

  const { room_id: room } = await alice.createRoom({
    invite: [bob.getUserId()],
    is_direct: true,
    preset: sdk.Preset.TrustedPrivateChat,
    initial_state: [
      { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
    ],
  });
  await until("the invite", () => bob.getRoom(room)?.getMyMembership() === "invite");
  await bob.joinRoom(room);
  await until("Bob is there", () => alice.getRoom(room)?.getMember(bob.getUserId())?.membership === "join");
  await until("Bob sees Alice", () => bob.getRoom(room)?.getMember(alice.getUserId())?.membership === "join");
  await say(alice, room, "hello Bob, this is a secret", [bob]);
  await say(bob, room, "hello Alice, so is this", [alice]);
  report("ok      two users talk in secret");

  let incoming = expectRequest(bob);
  await verify(alice, await alice.getCrypto().requestVerificationDM(bob.getUserId(), room), bob, incoming);
  await until("Alice trusts Bob", async () =>
    (await alice.getCrypto().getUserVerificationStatus(bob.getUserId())).isCrossSigningVerified());
  await until("Bob trusts Alice", async () =>
    (await bob.getCrypto().getUserVerificationStatus(alice.getUserId())).isCrossSigningVerified());
  report("ok      two users verify each other");

  const phone = await logIn(awayUrl, bob.getUserId(), bobSecrets);
  clients.push(phone);
  incoming = expectRequest(phone);
  for (const client of [alice, bob]) {
    await until(`${client.getUserId()} knows the new device`, async () => {
      const devices = await client.getCrypto().getUserDeviceInfo([bob.getUserId()]);
      return devices.get(bob.getUserId())?.has(phone.getDeviceId());
    });
  }
  await say(alice, room, "do all your devices read this?", [bob, phone]);
  const request = await bob.getCrypto().requestDeviceVerification(bob.getUserId(), phone.getDeviceId());
  await verify(bob, request, phone, incoming);
  await until("Alice trusts Bob's phone", async () => {
    await alice.getCrypto().getUserDeviceInfo([bob.getUserId()], true);
    const status = await alice.getCrypto().getDeviceVerificationStatus(bob.getUserId(), phone.getDeviceId());
    return status?.signedByOwner;
  });
  report("ok      a user verifies another device, and the others see it");

  // Alice's keys reach the backup behind the scenes.
  const backed = async () => {
    const backup = await alice.http.authedRequest(sdk.Method.Get, "/room_keys/version");
    return backup.count >= 2;
  };
  await until("Alice's keys are in the backup", backed, 60);
  const tablet = await logIn(homeUrl, alice.getUserId(), aliceSecrets);
  clients.push(tablet);
  const crypto = tablet.getCrypto();
  await until("the tablet sees Alice's keys", () => crypto.userHasCrossSigningKeys(alice.getUserId(), true));
  await crypto.bootstrapCrossSigning({});
  assert.ok(await crypto.isCrossSigningReady());
  await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
  const restored = await crypto.restoreKeyBackup();
  assert.ok(restored.imported >= 2, `${restored.imported} keys restored`);
  for (const text of ["hello Bob, this is a secret", "hello Alice, so is this"]) {
    await until(`the tablet reads ${text}`, () => find(tablet, room, text));
  }
  report("ok      a new device reads what was said before it");

  const before = await say(bob, room, "before somebody leaves", [alice, tablet]);
  const carol = await register(homeUrl, "carol", {});
  clients.push(carol);
  await alice.invite(room, carol.getUserId());
  await until("Carol's invite", () => carol.getRoom(room)?.getMyMembership() === "invite");
  await carol.joinRoom(room);
  await until("Carol is there", () => bob.getRoom(room)?.getMember(carol.getUserId())?.membership === "join");
  const during = await say(bob, room, "while Carol is here", [alice, carol]);
  await carol.leave(room);
  await until("Carol is gone", () => bob.getRoom(room)?.getMember(carol.getUserId())?.membership === "leave");
  const after = await say(bob, room, "after Carol left", [alice, phone]);
  assert.notEqual(during, after);
  report(`ok      keys change when somebody leaves${before === during ? "" : ", and when somebody comes"}`);
} catch (error) {
  report(`FAILED  ${error.stack}`);
  process.exitCode = 1;
} finally {
  for (const client of clients) client.stopClient();
  process.exit();
}
