"""People and their clients: requests in one line, and everything that /sync told, gathered."""

import itertools
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

PASSWORD = "correct horse battery staple"
SYNC_MS = 5_000
V3 = "/_matrix/client/v3"

_of_check = threading.local()
_numbers = itertools.count(1)


class Failed(Exception):
    """What was expected did not happen."""


def begin(seconds):
    """Sets how long all that this thread does may take."""
    _of_check.deadline = time.monotonic() + seconds


def deadline():
    return _of_check.deadline


def share_deadline(at):
    """For threads that a check starts."""
    _of_check.deadline = at


def remaining():
    return max(_of_check.deadline - time.monotonic(), 0.05)


def expect(condition, words):
    if not condition:
        raise Failed(words)


def expect_equal(seen, wanted, words):
    expect(seen == wanted, f"{words}: wanted {wanted!r}, saw {seen!r}")


def quote(text):
    return urllib.parse.quote(text, safe="")


def unique(name):
    return f"{name}-{next(_numbers)}"


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, request, status, headers, body):
        self.request, self.status, self.headers, self.body = request, status, headers, body

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Failed(f"{self.request} answered {self.status} without JSON: {self.body[:200]!r}") from error

    def expect(self, status=200):
        expect(self.status == status, f"{self.request} answered {self.status} {self.body[:400].decode(errors='replace')}")
        return self.json

    def expect_refused(self):
        expect(400 <= self.status < 500, f"{self.request} should be refused, but answered {self.status} {self.body[:400]!r}")
        return self.json


def send(method, url, token=None, body=None, content_type="application/json"):
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    request.add_header("Content-Type", content_type)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    words = f"{method} {urllib.parse.unquote(url)}"
    try:
        with urllib.request.urlopen(request, timeout=remaining() + 1) as answer:
            return Answer(words, answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(words, error.code, error.headers, error.read())
    except OSError as error:
        raise Failed(f"{words} was not answered: {error}") from error


class RoomView:
    """What a user has seen of a room."""

    def __init__(self):
        self.membership, self.state, self.stripped = None, {}, {}
        self.timeline, self.gaps, self.receipts, self.typing = [], 0, {}, set()

    def messages(self):
        return [event["content"].get("body") for event in self.timeline if event["type"] == "m.room.message"]

    def content(self, kind, key=""):
        event = self.state.get((kind, key)) or self.stripped.get((kind, key))
        return event["content"] if event else None

    def membership_of(self, user):
        return (self.content("m.room.member", user.id) or {}).get("membership")


class User:
    """A user with one device. Requests are methods; `wait` syncs until something was seen."""

    def __init__(self, server, name):
        self.server = server
        body = {"username": unique(name), "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        answer = send("POST", f"{server.url}{V3}/register", None, body).expect()
        self.id, self.token, self.device = answer["user_id"], answer["access_token"], answer["device_id"]
        self.since, self.views, self.presence, self.to_device = None, {}, {}, []
        self.changed_devices, self.last = set(), {}

    def __repr__(self):
        return self.id

    def room(self, room_id):
        return self.views.setdefault(room_id, RoomView())

    # Requests

    def ask(self, verb, path, body=None, /, **query):
        query = f"?{urllib.parse.urlencode(query, doseq=True)}" if query else ""
        path = path if path.startswith("/_matrix") else V3 + path
        return send(verb, self.server.url + path + query, self.token, body)

    def get(self, path, /, **query):
        return self.ask("GET", path, **query).expect()

    def post(self, path, body=None, /, **query):
        return self.ask("POST", path, body or {}, **query).expect()

    def put(self, path, body=None, /, **query):
        return self.ask("PUT", path, body or {}, **query).expect()

    def create_room(self, **body):
        return self.post("/createRoom", body)["room_id"]

    def create_public_room(self, **body):
        return self.create_room(**({"preset": "public_chat"} | body))

    def try_join(self, room, *via):
        servers = [server.name for server in via]
        return self.ask("POST", f"/join/{quote(room)}", {}, via=servers, server_name=servers)

    def join(self, room, *via):
        return self.try_join(room, *via).expect()["room_id"]

    def act(self, room, action, user=None, **body):
        """Does what is a POST: invite, kick, ban, unban, leave."""
        if user:
            body["user_id"] = user.id
        return self.ask("POST", f"/rooms/{quote(room)}/{action}", body)

    def send_event(self, room, kind, content):
        return self.put(f"/rooms/{quote(room)}/send/{kind}/{unique('txn')}", content)["event_id"]

    def say(self, room, text, **more):
        return self.send_event(room, "m.room.message", {"msgtype": "m.text", "body": text} | more)

    def put_state(self, room, kind, content, key=""):
        return self.put(f"/rooms/{quote(room)}/state/{kind}/{quote(key)}", content)["event_id"]

    def get_state(self, room, kind, key=""):
        return self.get(f"/rooms/{quote(room)}/state/{kind}/{quote(key)}")

    def get_event(self, room, event_id):
        return self.get(f"/rooms/{quote(room)}/event/{quote(event_id)}")

    def redact(self, room, event_id):
        return self.put(f"/rooms/{quote(room)}/redact/{quote(event_id)}/{unique('txn')}", {"reason": "a slip"})["event_id"]

    def history(self, room):
        """All events that paging back shows, oldest first, gaps of /sync included."""
        events, token = [], None
        while True:
            query = {"from": token} if token else {}
            page = self.get(f"/rooms/{quote(room)}/messages", dir="b", limit=100, **query)
            events += page["chunk"]
            # An empty page with a token may be followed by more.
            if not page.get("end") or page["end"] == token:
                return events[::-1]
            token = page["end"]

    # Syncing

    def sync(self, timeout_ms=0):
        query = {"timeout": timeout_ms, "filter": json.dumps({"room": {"timeline": {"limit": 100}}})}
        if self.since:
            query["since"] = self.since
        answer = self.get("/sync", **query)
        self.since = answer["next_batch"]
        rooms = answer.get("rooms", {})
        for membership in ("join", "invite", "knock", "leave"):
            for room_id, room in rooms.get(membership, {}).items():
                self._take_room(room_id, membership, room)
        for event in answer.get("presence", {}).get("events", []):
            self.presence[event["sender"]] = event["content"]
        self.to_device += answer.get("to_device", {}).get("events", [])
        self.changed_devices |= set(answer.get("device_lists", {}).get("changed", []))
        self.last = answer

    def _take_room(self, room_id, membership, room):
        view = self.room(room_id)
        view.membership = membership
        for event in room.get(f"{membership}_state", {}).get("events", []):
            view.stripped[event["type"], event["state_key"]] = event
        timeline = room.get("timeline", {})
        view.gaps += bool(timeline.get("limited")) and self.since is not None
        for event in room.get("state", {}).get("events", []) + timeline.get("events", []):
            if "state_key" in event:
                view.state[event["type"], event["state_key"]] = event
        view.timeline += timeline.get("events", [])
        for event in room.get("ephemeral", {}).get("events", []):
            if event["type"] == "m.typing":
                view.typing = set(event["content"]["user_ids"])
            elif event["type"] == "m.receipt":
                for event_id, kinds in event["content"].items():
                    for kind, readers in kinds.items():
                        for reader in readers:
                            view.receipts[kind, reader] = event_id

    def wait(self, words, seen):
        """Syncs until `seen(self)` gives something true, and returns that."""
        while True:
            result = seen(self)
            if result:
                return result
            left = remaining()
            if left <= 0.1:
                raise Failed(f"{self} did not see {words}")
            self.sync(int(min(SYNC_MS, left * 1000)))

    def wait_room(self, room_id, words, seen):
        return self.wait(f"{words} in {room_id}", lambda user: seen(user.room(room_id)))

    def wait_message(self, room_id, *texts):
        """Waits until all texts were seen."""
        try:
            return self.wait_room(room_id, f"{texts}", lambda room: set(texts) <= set(room.messages()))
        except Failed as failed:
            seen = self.room(room_id).messages()
            missing = [text for text in texts if text not in seen]
            raise Failed(f"{self} did not see {missing[:5]} ({len(missing)} of {len(texts)}) in {room_id}, but {seen[-5:]}") \
                from failed

    def wait_membership(self, room_id, user, membership):
        return self.wait_room(
            room_id, f"{user} with membership {membership}", lambda room: room.membership_of(user) == membership)

    def wait_own(self, room_id, membership):
        return self.wait_room(room_id, f"the own membership {membership}", lambda room: room.membership == membership)


def together(*actions):
    """Does things at the same time. Fails with the first that failed."""
    at, failures = deadline(), []

    def run(action):
        share_deadline(at)
        try:
            action()
        except Exception as failure:  # reported by the caller
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
