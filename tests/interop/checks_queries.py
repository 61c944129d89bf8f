"""What one server asks the other: directories, spaces, media, keys."""

import base64

from checks_talking import meet
from people import User, expect, expect_equal, quote, send, unique
from registry import check

# A red pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==")
ALGORITHM = "m.megolm.v1.aes-sha2"


@check
def directory(home, away):
    """The other server's public rooms are listed and searched, and its aliases resolved."""
    alice, bob = User(home, "alice"), User(away, "bob")
    name, alias = unique("pond"), unique("alias")
    room = alice.create_public_room(name=name, room_alias_name=alias, visibility="public", topic="frogs")
    hidden = alice.create_public_room(name=f"{name} hidden")
    found = bob.post("/publicRooms", {"filter": {"generic_search_term": name}, "limit": 10}, server=home.name)
    expect_equal([entry["room_id"] for entry in found["chunk"]], [room], "the rooms found")
    entry = found["chunk"][0]
    expect_equal((entry["name"], entry["topic"], entry["num_joined_members"]), (name, "frogs", 1), "the entry")
    listed = bob.get("/publicRooms", server=home.name, limit=500)
    rooms = [entry["room_id"] for entry in listed["chunk"]]
    expect(room in rooms and hidden not in rooms, f"the public rooms are {rooms}")
    resolved = bob.get(f"/directory/room/{quote(f'#{alias}:{home.name}')}")
    expect_equal(resolved["room_id"], room, "where the alias points")
    expect(home.name in resolved["servers"], f"the servers of the alias are {resolved['servers']}")
    bob.ask("GET", f"/directory/room/{quote(f'#{unique(name)}:{home.name}')}").expect_refused()


@check
def space(home, away):
    """A space of the other server is walked, from outside and from inside."""
    alice, bob = User(home, "alice"), User(away, "bob")
    parent = alice.create_public_room(name="Wetlands", creation_content={"type": "m.space"})
    children = [alice.create_public_room(name=f"Pond {number}") for number in range(2)]
    secret = alice.create_room(preset="private_chat", name="Secret")
    for child in [*children, secret]:
        alice.put_state(parent, "m.space.child", {"via": [home.name]}, child)

    def walk():
        rooms = bob.get(f"/_matrix/client/v1/rooms/{quote(parent)}/hierarchy")["rooms"]
        expect_equal([room["room_id"] for room in rooms][:1], [parent], "the first room of the space")
        expect_equal(sorted(room["room_id"] for room in rooms[1:]), sorted(children), "the rooms in the space")
        expect_equal(len(rooms[0]["children_state"]), 3, "the children that the space names")
    bob.join(parent, home)
    walk()
    bob.join(children[0], home)
    walk()


def upload(user, data):
    url = f"{user.server.url}/_matrix/media/v3/upload?filename=pixel.png"
    return send("POST", url, user.token, data, "image/png").expect()["content_uri"].removeprefix("mxc://")


@check
def media(home, away):
    """What was uploaded at one server is downloaded at the other."""
    alice, bob = User(home, "alice"), User(away, "bob")
    uri = upload(alice, PNG)
    answer = bob.ask("GET", f"/_matrix/client/v1/media/download/{uri}")
    expect_equal((answer.status, answer.body), (200, PNG), "the download")
    expect_equal(answer.headers["Content-Type"], "image/png", "its type")
    expect("pixel.png" in (answer.headers["Content-Disposition"] or ""), f"its name: {answer.headers['Content-Disposition']}")
    bob.ask("GET", f"/_matrix/client/v1/media/download/{home.name}/nothing").expect_refused()


@check
def media_thumbnail(home, away):
    """A thumbnail of the other server's picture is made."""
    alice, bob = User(home, "alice"), User(away, "bob")
    uri = upload(alice, PNG)
    answer = bob.ask("GET", f"/_matrix/client/v1/media/thumbnail/{uri}", width=32, height=32, method="scale")
    expect_equal(answer.status, 200, "the thumbnail")
    expect(answer.body[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"RIFF"), f"no picture: {answer.body[:20]!r}")


def device_keys(user):
    return {
        "user_id": user.id, "device_id": user.device, "algorithms": [ALGORITHM],
        "keys": {f"ed25519:{user.device}": unique("key"), f"curve25519:{user.device}": unique("key")},
        "signatures": {user.id: {f"ed25519:{user.device}": "signature"}}}


@check
def device_key_query(home, away):
    """Keys of the other server's devices are found, and changes are told."""
    alice, bob, room = meet(home, away)
    for user, other in ((bob, alice), (alice, bob)):
        other.sync()
        keys = device_keys(user)
        user.post("/keys/upload", {"device_keys": keys})
        other.wait(f"changed devices of {user}", lambda viewer: user.id in viewer.changed_devices)
        seen = other.wait(f"the keys of {user}", lambda viewer: viewer.post(
            "/keys/query", {"device_keys": {user.id: []}})["device_keys"].get(user.id, {}).get(user.device))
        expect_equal(seen["keys"], keys["keys"], f"the keys of {user}")
        stranger = User(user.server, "stranger")
        keys = device_keys(stranger)
        stranger.post("/keys/upload", {"device_keys": keys})
        seen = other.post("/keys/query", {"device_keys": {stranger.id: []}})["device_keys"]
        expect_equal(seen.get(stranger.id, {}).get(stranger.device, {}).get("keys"), keys["keys"], f"the keys of {stranger}")


@check
def one_time_key_claim(home, away):
    """A one-time key of the other server's device is claimed once; then the fallback key is given."""
    alice, bob, room = meet(home, away)
    for user, other in ((bob, alice), (alice, bob)):
        user.post("/keys/upload", {
            "device_keys": device_keys(user), "one_time_keys": {"signed_curve25519:A": {"key": "once", "signatures": {}}},
            "fallback_keys": {"signed_curve25519:F": {"key": "fallback", "fallback": True, "signatures": {}}}})
        for wanted in ("once", "fallback", "fallback"):
            claimed = other.post("/keys/claim", {"one_time_keys": {user.id: {user.device: "signed_curve25519"}}})
            keys = list(claimed["one_time_keys"].get(user.id, {}).get(user.device, {}).values())
            expect_equal([key["key"] for key in keys], [wanted], f"the key of {user}")


@check
def to_device(home, away):
    """A message to a device of the other server arrives once."""
    alice, bob, room = meet(home, away)
    for user, other in ((bob, alice), (alice, bob)):
        other.sync()
        for number in range(3):
            user.put(f"/sendToDevice/m.test/{unique('txn')}", {
                "messages": {other.id: {other.device: {"number": number}}}})
        other.wait("three messages to the device", lambda viewer: len(viewer.to_device) >= 3)
        seen = [(event["sender"], event["type"], event["content"]["number"]) for event in other.to_device]
        expect_equal(seen, [(user.id, "m.test", number) for number in range(3)], "the messages to the device")
        other.to_device = []


@check
def timestamp_to_event(home, away):
    """The event at a time before the own server came is found at the other."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_public_room()
    first = alice.say(room, "first")
    when = alice.get_event(room, first)["origin_server_ts"]
    for number in range(30):
        alice.say(room, f"later {number}")
    bob.join(room, home)
    found = bob.get(f"/_matrix/client/v1/rooms/{quote(room)}/timestamp_to_event", ts=when, dir="f")
    expect_equal(found["event_id"], first, "the event found")


@check
def openid(home, away):
    """A token for others tells them who its owner is."""
    alice = User(home, "alice")
    token = alice.post(f"/user/{quote(alice.id)}/openid/request_token")
    expect_equal(token["matrix_server_name"], home.name, "the server of the token")
    seen = home.federation_get(f"/_matrix/federation/v1/openid/userinfo?access_token={quote(token['access_token'])}")
    expect_equal(seen, {"sub": alice.id}, "the owner of the token")


@check
def notary(home, away):
    """Either server vouches for the keys of the other."""
    own = home.federation_get("/_matrix/key/v2/server")
    told = away.federation_get(f"/_matrix/key/v2/query/{quote(home.name)}?minimum_valid_until_ts=0")["server_keys"]
    expect(any(keys["verify_keys"] == own["verify_keys"] for keys in told), f"{away.label} vouches for {told}, not {own}")
    for keys in told:
        expect({home.name, away.name} <= set(keys["signatures"]), f"the keys are signed by {list(keys['signatures'])}")


@check
def version(home, away):
    """The server tells what it is."""
    seen = home.federation_get("/_matrix/federation/v1/version")["server"]
    expect_equal(seen["name"].lower(), home.kind, "the name of the server")
