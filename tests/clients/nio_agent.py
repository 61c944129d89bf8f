"""A matrix-nio client that obeys: one JSON command a line on standard input, one JSON answer a line on standard output."""

import asyncio
import contextlib
import json
import sys

import nio

SYNC_FILTER = {"room": {"timeline": {"limit": 1000}}, "presence": {"types": []}}


class Agent:
    def __init__(self, url):
        self.url = url
        self.client = None
        self.seen = {}  # room -> [[event ID, sender, body], ...], as they came through /sync
        self.memberships = {}  # room -> "invite" | "join" | "leave"
        self.gaps = []
        self.news = asyncio.Condition()
        self.task = None

    async def follow(self):
        """Syncs for ever."""
        since = None
        while True:
            answer = await self.client.sync(timeout=20_000, since=since, sync_filter=SYNC_FILTER)
            if isinstance(answer, nio.SyncError):
                raise RuntimeError(f"sync failed: {answer}")
            async with self.news:
                self.take(answer, since)
                since = answer.next_batch
                self.news.notify_all()

    def take(self, answer, since):
        for room, joined in answer.rooms.join.items():
            self.memberships[room] = "join"
            if joined.timeline.limited and since is not None and self.seen.get(room):
                self.gaps.append(room)
            self.record(room, joined.timeline.events)
        for room in answer.rooms.invite:
            self.memberships[room] = "invite"
        for room, left in answer.rooms.leave.items():
            self.memberships[room] = "leave"
            self.record(room, left.timeline.events)

    def record(self, room, events):
        for event in events:
            if isinstance(event, nio.RoomMessageText):
                self.seen.setdefault(room, []).append([event.event_id, event.sender, event.body])

    async def until(self, condition, seconds):
        async with self.news:
            await asyncio.wait_for(self.news.wait_for(condition), seconds)

    async def register(self, name, password):
        self.client = nio.AsyncClient(self.url, name)
        check(await self.client.register(name, password, device_name="nio"))
        self.task = asyncio.create_task(self.follow())
        return {"user_id": self.client.user_id}

    async def login(self, name, password):
        """Logs in anew without following; for paging back as a new device does."""
        self.client = nio.AsyncClient(self.url, name)
        check(await self.client.login(password, device_name="nio again"))
        return {"user_id": self.client.user_id}

    async def set_profile(self, name, avatar):
        check(await self.client.set_displayname(name))
        check(await self.client.set_avatar(avatar))

    async def create_room(self, name, is_direct, invite):
        preset = nio.RoomPreset.trusted_private_chat if is_direct else nio.RoomPreset.private_chat
        answer = check(await self.client.room_create(
            name=name, is_direct=is_direct, preset=preset, invite=invite))
        return {"room": answer.room_id}

    async def wait_membership(self, room, membership):
        await self.until(lambda: self.memberships.get(room) == membership, 20)

    async def invite(self, room, user):
        check(await self.client.room_invite(room, user))

    async def join(self, room):
        answer = await self.client.join(room)
        return {"errcode": answer.status_code if isinstance(answer, nio.JoinError) else None}

    async def kick(self, room, user):
        check(await self.client.room_kick(room, user, reason="test"))

    async def ban(self, room, user):
        check(await self.client.room_ban(room, user, reason="test"))

    async def send(self, room, prefix, first, count):
        for number in range(first, first + count):
            content = {"msgtype": "m.text", "body": f"{prefix}{number}"}
            check(await self.client.room_send(room, "m.room.message", content))

    async def wait_seen(self, room, count, settle_ms):
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: len(self.seen.get(room, [])) >= count, 60)
        # What comes twice would come now.
        await asyncio.sleep(settle_ms / 1000)
        return {"messages": self.seen.get(room, []), "gaps": self.gaps}

    async def wait_profile(self, room, user, name, avatar):
        def shows_it():
            joined = self.client.rooms.get(room)
            member = joined and joined.users.get(user)
            return member and member.display_name == name and member.avatar_url == avatar
        await self.until(shows_it, 20)

    async def page_back(self, room):
        start, messages = None, []
        while True:
            answer = check(await self.client.room_messages(room, start=start, limit=100))
            messages += [[e.event_id, e.sender, e.body] for e in answer.chunk
                         if isinstance(e, nio.RoomMessageText)]
            if not answer.end:
                return {"messages": messages}
            start = answer.end


def check(answer):
    if isinstance(answer, nio.ErrorResponse):
        raise RuntimeError(f"{type(answer).__name__}: {answer}")
    return answer


async def main():
    agent = Agent(sys.argv[1])
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            answer = await getattr(agent, command.pop("do"))(**command) or {}
        except Exception as error:
            if agent.task and agent.task.done():
                error = agent.task.exception() or error
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    if agent.task:
        agent.task.cancel()
    if agent.client:
        await agent.client.close()


asyncio.run(main())
