"""Two matrix-nio and two matrix-js-sdk clients talk through a server, and everything that each of them sees is compared.

    converse.py URL        (tests/clients/run installs the clients, starts a server and calls this)
"""

import asyncio
import json
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).parent
CLIENTS = pathlib.Path(os.environ["CLIENTS_DIR"])
PASSWORD = "correct horse battery staple"
DIRECT_EACH, GROUP_EACH = 500, 250  # 1,000 messages in either room
ROUND = 50


class Agent:
    """A client in a process of its own."""

    def __init__(self, name, kind):
        self.name, self.kind, self.user_id, self.process = name, kind, None, None

    async def start(self, url):
        program = {
            "nio": [str(CLIENTS / "venv/bin/python"), str(HERE / "nio_agent.py")],
            "js": ["node", str(CLIENTS / "js/js_agent.mjs")],
        }[self.kind]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *program, url, stdin=pipe, stdout=pipe, limit=2**24)
        return self

    async def do(self, command, **parameters):
        self.process.stdin.write(json.dumps({"do": command, **parameters}).encode() + b"\n")
        await self.process.stdin.drain()
        line = await self.process.stdout.readline()
        assert line, f"{self.name} ({self.kind}) died during {command}"
        answer = json.loads(line)
        assert "error" not in answer, f"{self.name} ({self.kind}), {command}: {answer['error']}"
        return answer

    async def stop(self):
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), 20)


def check_messages(agent, messages, expected_count, senders):
    ids = [event_id for event_id, _, _ in messages]
    assert len(ids) == len(set(ids)), f"{agent.name} saw a message twice"
    assert len(ids) == expected_count, f"{agent.name} saw {len(ids)} of {expected_count} messages"
    for sender in senders:
        numbers = [int(body.split("-")[1]) for _, by, body in messages if by == sender.user_id]
        assert numbers == list(range(len(numbers))), f"{agent.name} saw {sender.name}'s messages out of order"


async def converse_in(room, agents, each):
    """All send at once; all must see the same messages in the same order.

    In rounds, so that nobody lags behind by more than a timeline holds: servers may limit that, and then clients page back.
    """
    begin = time.monotonic()
    for first in range(0, each, ROUND):
        await asyncio.gather(*(
            a.do("send", room=room, prefix=f"{a.name}-", first=first, count=ROUND) for a in agents))
        is_last = first + ROUND == each
        count, settle_ms = (first + ROUND) * len(agents), 500 if is_last else 0
        seen = await asyncio.gather(*(
            a.do("wait_seen", room=room, count=count, settle_ms=settle_ms) for a in agents))
        for agent, answer in zip(agents, seen):
            assert not answer["gaps"], f"{agent.name} was given limited timelines"
        everything = {message[0]: message for answer in seen for message in answer["messages"]}
        for agent, answer in zip(agents, seen):
            missed = everything.keys() - {message[0] for message in answer["messages"]}
            assert not missed, f"{agent.name} missed {[everything[event_id] for event_id in missed]}"
    seconds = time.monotonic() - begin
    for agent, answer in zip(agents, seen):
        check_messages(agent, answer["messages"], count, agents)
        assert answer["messages"] == seen[0]["messages"], f"{agent.name} saw another order than {agents[0].name}"
    print(f"    {count} messages of {len(agents)} users in {seconds:.1f} s, seen once and in order by all")
    return seen[0]["messages"]


async def page_back(room, agents, messages):
    for agent, answer in zip(agents, await asyncio.gather(*(a.do("page_back", room=room) for a in agents))):
        assert answer["messages"] == messages[::-1], f"{agent.name} pages back through another history"


async def scenario(url):
    nia, nino = Agent("nia", "nio"), Agent("nino", "nio")
    jana, jaro = Agent("jana", "js"), Agent("jaro", "js")
    everybody = [nia, nino, jana, jaro]
    await asyncio.gather(*(agent.start(url) for agent in everybody))
    for agent in everybody:
        answer = await agent.do("register", name=agent.name, password=PASSWORD)
        agent.user_id = answer["user_id"]
    print("ok  two matrix-nio and two matrix-js-sdk users registered")

    for agent in everybody:
        await agent.do("set_profile", name=agent.name.title(), avatar=f"mxc://localhost/{agent.name}")
    direct = (await nia.do("create_room", name=None, is_direct=True, invite=[jana.user_id]))["room"]
    await jana.do("wait_membership", room=direct, membership="invite")
    assert (await jana.do("join", room=direct))["errcode"] is None
    others = [nia, nino, jana]
    group = (await jaro.do(
        "create_room", name="Pond", is_direct=False, invite=[a.user_id for a in others]))["room"]
    for agent in others:
        await agent.do("wait_membership", room=group, membership="invite")
        assert (await agent.do("join", room=group))["errcode"] is None
    print("ok  a direct room and a group were made, all joined")

    direct_messages = await converse_in(direct, [nia, jana], DIRECT_EACH)
    group_messages = await converse_in(group, everybody, GROUP_EACH)
    print("ok  all messages were seen by everybody, exactly once, in one order")

    for agent in everybody:
        name, avatar = f"{agent.name.title()} II", f"mxc://localhost/{agent.name}2"
        await agent.do("set_profile", name=name, avatar=avatar)
        for other in everybody:
            await other.do("wait_profile", room=group, user=agent.user_id, name=name, avatar=avatar)
    print("ok  new names and avatars were seen by everybody")

    await page_back(direct, [nia, jana], direct_messages)
    await page_back(group, everybody, group_messages)
    again = [await Agent("nia", "nio").start(url), await Agent("jana", "js").start(url)]
    for agent in again:
        await agent.do("login", name=agent.name, password=PASSWORD)
    await page_back(group, again, group_messages)
    print("ok  all paged back through the whole history, on new devices too")

    await jaro.do("kick", room=group, user=nino.user_id)
    await nino.do("wait_membership", room=group, membership="leave")
    assert (await nino.do("join", room=group))["errcode"] == "M_FORBIDDEN"
    await jaro.do("invite", room=group, user=nino.user_id)
    await nino.do("wait_membership", room=group, membership="invite")
    assert (await nino.do("join", room=group))["errcode"] is None
    await nino.do("wait_membership", room=group, membership="join")
    await jaro.do("ban", room=group, user=jana.user_id)
    await jana.do("wait_membership", room=group, membership="ban")
    assert (await jana.do("join", room=group))["errcode"] == "M_FORBIDDEN"
    print("ok  one was kicked and came back, one was banned and could not")
    await asyncio.gather(*(agent.stop() for agent in everybody + again))


asyncio.run(scenario(sys.argv[1]))
print("1 passed, 0 failed")
