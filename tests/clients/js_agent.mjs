// A matrix-js-sdk client that obeys: one JSON command a line on standard input, one JSON answer a line on standard output.

import { createInterface } from "node:readline";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";

// Only answers may go to standard output; the SDK's loggers are many and loud.
for (const level of ["log", "info", "warn", "error", "debug", "trace"]) console[level] = () => {};
logger.disableAll();

const baseUrl = process.argv[2];
let client;
const seen = new Map(); // room -> [[event ID, sender, body], ...], as they came through /sync
const gaps = [];

const describe = (event) => [event.getId(), event.getSender(), event.getContent().body];
const isText = (event) => event.getType() === "m.room.message" && event.getContent().msgtype === "m.text";

// Waits until a condition holds that may change with each sync.
async function until(condition, seconds) {
  const end = Date.now() + seconds * 1000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited ${seconds} s in vain for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function start(answer) {
  client = sdk.createClient({
    baseUrl,
    userId: answer.user_id,
    accessToken: answer.access_token,
    deviceId: answer.device_id,
  });
  // Emitted for every event of a sync answer, in its order; never for local echoes.
  client.on(sdk.ClientEvent.Event, (event) => {
    if (!isText(event) || !event.getId().startsWith("$")) return;
    const room = event.getRoomId();
    if (!seen.has(room)) seen.set(room, []);
    seen.get(room).push(describe(event));
  });
  client.on(sdk.RoomEvent.TimelineReset, (room) => {
    if (room && seen.has(room.roomId)) gaps.push(room.roomId);
  });
  // With the server's own limit, a client that falls behind is given gaps, which is right but not asked for here.
  const filter = new sdk.Filter(answer.user_id);
  filter.setTimelineLimit(500);
  await client.startClient({ filter, initialSyncLimit: 500, lazyLoadMembers: true });
  await until(() => client.isInitialSyncComplete(), 30);
}

const commands = {
  async register({ name, password }) {
    const bare = sdk.createClient({ baseUrl });
    const auth = { type: "m.login.dummy" };
    const answer = await bare.registerRequest({ username: name, password, auth });
    await start(answer);
    return { user_id: answer.user_id };
  },

  async login({ name, password }) {
    const bare = sdk.createClient({ baseUrl });
    const identifier = { type: "m.id.user", user: name };
    const answer = await bare.loginRequest({ type: "m.login.password", identifier, password });
    client = sdk.createClient({ baseUrl, userId: answer.user_id, accessToken: answer.access_token });
    return { user_id: answer.user_id };
  },

  async set_profile({ name, avatar }) {
    await client.setDisplayName(name);
    await client.setAvatarUrl(avatar);
  },

  async create_room({ name, is_direct, invite }) {
    const preset = is_direct ? sdk.Preset.TrustedPrivateChat : sdk.Preset.PrivateChat;
    const options = { is_direct, invite, preset };
    const answer = await client.createRoom(name ? { ...options, name } : options);
    return { room: answer.room_id };
  },

  async wait_membership({ room, membership }) {
    await until(() => client.getRoom(room)?.getMyMembership() === membership, 20);
  },

  async invite({ room, user }) {
    await client.invite(room, user);
  },

  async join({ room }) {
    try {
      await client.joinRoom(room);
      return { errcode: null };
    } catch (error) {
      if (error.errcode) return { errcode: error.errcode };
      throw error;
    }
  },

  async kick({ room, user }) {
    await client.kick(room, user, "test");
  },

  async ban({ room, user }) {
    await client.ban(room, user, "test");
  },

  async send({ room, prefix, first, count }) {
    for (let number = first; number < first + count; number += 1) {
      await client.sendTextMessage(room, `${prefix}${number}`);
    }
  },

  async wait_seen({ room, count, settle_ms }) {
    const number = () => (seen.get(room) ?? []).length;
    await until(() => number() >= count, 60).catch(() => {});
    // What comes twice would come now.
    await new Promise((resolve) => setTimeout(resolve, settle_ms));
    return { messages: seen.get(room) ?? [], gaps };
  },

  async wait_profile({ room, user, name, avatar }) {
    const shows = () => {
      const member = client.getRoom(room)?.getMember(user);
      return member?.rawDisplayName === name && member.getMxcAvatarUrl() === avatar;
    };
    await until(shows, 20);
  },

  async page_back({ room }) {
    const messages = [];
    let from = null;
    for (;;) {
      const page = await client.createMessagesRequest(room, from, 100, sdk.Direction.Backward);
      const events = page.chunk.map((event) => new sdk.MatrixEvent(event));
      messages.push(...events.filter(isText).map(describe));
      if (!page.end) return { messages };
      from = page.end;
    }
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...parameters } = JSON.parse(line);
  let answer;
  try {
    answer = (await commands[name](parameters)) ?? {};
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
client?.stopClient();
process.exit(0);
