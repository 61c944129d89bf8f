"""What people of two servers tell each other."""

from checks_joining import talk
from people import User, expect, expect_equal, quote, together, unique
from registry import check

MESSAGES_EACH = 500


def meet(home, away, **room):
    """A user of either server in a room of the first."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_public_room(**room)
    bob.join(room, home)
    alice.wait_membership(room, bob, "join")
    bob.wait_own(room, "join")
    return alice, bob, room


@check(seconds=900)
def messages_500(home, away):
    """Both say 500 things at the same time; both see all, once, and each sender's in order."""
    alice, bob, room = meet(home, away)
    wanted = {user: [f"{user} {number}" for number in range(MESSAGES_EACH)] for user in (alice, bob)}
    everything = wanted[alice] + wanted[bob]

    def say_all(user):
        for text in wanted[user]:
            user.say(room, text)

    together(lambda: say_all(alice), lambda: say_all(bob))
    # What a limited sync passed over is in the history.
    for user in (alice, bob):
        last = {wanted[alice][-1], wanted[bob][-1]}
        user.wait_room(room, "the last messages", lambda view: last <= set(view.messages()) or view.gaps)

        def complete(view):
            seen = [event for event in (user.history(room) if view.gaps else view.timeline) if event["type"] == "m.room.message"]
            return seen if {event["content"]["body"] for event in seen} >= set(everything) else None
        seen = user.wait_room(room, "all messages", complete)
        bodies = [event["content"]["body"] for event in seen]
        expect_equal(len(bodies), len(everything), f"messages that {user} saw")
        for sender in (alice, bob):
            by_sender = [event["content"]["body"] for event in seen if event["sender"] == sender.id]
            expect(by_sender == wanted[sender], f"{user} saw the messages of {sender} in another order")


@check
def redaction(home, away):
    """Either side takes back what it said, and a moderator what the other said."""
    alice, bob, room = meet(home, away)
    of_alice, of_bob, second_of_bob = alice.say(room, "a"), bob.say(room, "b"), bob.say(room, "c")
    for user in (alice, bob):
        user.wait_message(room, "a", "b", "c")
    redactions = {
        of_alice: alice.redact(room, of_alice), of_bob: bob.redact(room, of_bob),
        second_of_bob: alice.redact(room, second_of_bob)}
    for user in (alice, bob):
        user.wait_room(room, "all redactions", lambda view: set(redactions.values()) <= {
            event["event_id"] for event in view.timeline})
        for target, by in redactions.items():
            event = user.get_event(room, target)
            expect_equal(event["content"], {}, f"what {user} sees of a redacted message")
            because = event.get("unsigned", {}).get("redacted_because", {}).get("event_id")
            expect_equal(because, by, f"the redaction that {user} is told of")
    # One without power can't redact the other's.
    kept = alice.say(room, "kept")
    bob.wait_message(room, "kept")
    bob.ask("PUT", f"/rooms/{quote(room)}/redact/{quote(kept)}/{unique('txn')}", {}).expect_refused()


@check
def edit_and_reply(home, away):
    """An edit, a reaction and a reply arrive with their relation."""
    alice, bob, room = meet(home, away)
    for user, other in ((alice, bob), (bob, alice)):
        said = user.say(room, f"teh {user}")
        edit = user.say(room, f"* the {user}", **{
            "m.new_content": {"msgtype": "m.text", "body": "the"}, "m.relates_to": {"rel_type": "m.replace", "event_id": said}})
        other.wait_message(room, f"teh {user}", f"* the {user}")
        seen = next(event for event in other.room(room).timeline if event["event_id"] == edit)
        expect_equal(seen["content"]["m.relates_to"], {"rel_type": "m.replace", "event_id": said}, "the relation of the edit")
        expect_equal(seen["content"]["m.new_content"]["body"], "the", "the edited text")
        if other.server.kind == "synapse":
            bundled = other.get_event(room, said).get("unsigned", {}).get("m.relations", {}).get("m.replace", {})
            expect_equal(bundled.get("event_id"), edit, "the edit that is told with the original")
        reaction = other.send_event(room, "m.reaction", {
            "m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "🐸"}})
        user.wait_room(room, "the reaction", lambda view: any(event["event_id"] == reaction for event in view.timeline))
        other.say(room, f"yes, {user}", **{"m.relates_to": {"m.in_reply_to": {"event_id": said}}})
        user.wait_message(room, f"yes, {user}")


@check
def receipts(home, away):
    """Read receipts arrive; private ones stay private."""
    alice, bob, room = meet(home, away)
    first, second = alice.say(room, "first"), alice.say(room, "second")
    bob.wait_message(room, "first", "second")
    for reader, other in ((bob, alice), (alice, bob)):
        reader.post(f"/rooms/{quote(room)}/receipt/m.read.private/{quote(first)}")
        reader.post(f"/rooms/{quote(room)}/receipt/m.read/{quote(second)}")
        other.wait_room(room, f"the receipt of {reader}", lambda view: view.receipts.get(("m.read", reader.id)) == second)
        expect(("m.read.private", reader.id) not in other.room(room).receipts, "a private receipt was shown to others")


@check
def typing(home, away):
    """One sees that the other types, and that it has ended."""
    alice, bob, room = meet(home, away)
    for writer, other in ((bob, alice), (alice, bob)):
        path = f"/rooms/{quote(room)}/typing/{quote(writer.id)}"
        writer.put(path, {"typing": True, "timeout": 30_000})
        other.wait_room(room, f"{writer} typing", lambda view: writer.id in view.typing)
        writer.put(path, {"typing": False})
        other.wait_room(room, f"{writer} not typing", lambda view: writer.id not in view.typing)


@check
def presence(home, away):
    """One sees whether the other is there."""
    alice, bob, room = meet(home, away)
    for user, other in ((bob, alice), (alice, bob)):
        for state, words in (("unavailable", unique("asleep")), ("online", unique("awake"))):
            user.put(f"/presence/{quote(user.id)}/status", {"presence": state, "status_msg": words})
            other.wait(f"{user} {state}, {words}", lambda viewer: viewer.presence.get(
                user.id, {}).get("status_msg") == words)
            # Whoever syncs is online, which may be told first; the words are what tells.


@check
def profiles(home, away):
    """Names and avatars of the other server's users are found, and changes are seen in rooms."""
    alice, bob, room = meet(home, away)
    for user, other in ((bob, alice), (alice, bob)):
        name, avatar = unique("Froggy"), f"mxc://{user.server.name}/frog"
        user.put(f"/profile/{quote(user.id)}/displayname", {"displayname": name})
        user.put(f"/profile/{quote(user.id)}/avatar_url", {"avatar_url": avatar})
        other.wait_room(room, f"the profile of {user}", lambda view: [
            view.content("m.room.member", user.id).get(field) for field in ("displayname", "avatar_url")] == [name, avatar])
        # Somebody who was never asked for: nothing is cached.
        stranger = User(user.server, "stranger")
        stranger.put(f"/profile/{quote(stranger.id)}/displayname", {"displayname": name})
        stranger.put(f"/profile/{quote(stranger.id)}/avatar_url", {"avatar_url": avatar})
        profile = other.get(f"/profile/{quote(stranger.id)}")
        expect_equal((profile.get("displayname"), profile.get("avatar_url")), (name, avatar), f"the profile of {stranger}")
        expect_equal(other.get(f"/profile/{quote(stranger.id)}/displayname"), {"displayname": name}, "the name alone")
        other.ask("GET", f"/profile/{quote('@nobody:' + user.server.name)}").expect_refused()


@check(seconds=180)
def history(home, away):
    """One who joins late reads everything that was said before."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_public_room()
    texts = [f"old {number}" for number in range(150)]
    for text in texts:
        alice.say(room, text)
    bob.join(room, home)
    bob.wait_own(room, "join")

    def old(events):
        return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]
    # A server may fetch a part only when it is asked for, and answer with what it has.
    seen = bob.wait("all of the history", lambda user: (lambda seen: seen if len(seen) >= 150 else None)(old(user.history(room))))
    expect(seen == texts, f"the history is not as it was: {len(seen)} messages, {seen[:3]} … {seen[-3:]}")


@check
def history_hidden(home, away):
    """One who joins late reads nothing of before where the room says so."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_public_room(initial_state=[{
        "type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}])
    for number in range(20):
        alice.say(room, f"secret {number}")
    bob.join(room, home)
    bob.wait_own(room, "join")
    talk(room, alice, bob)
    bodies = [event["content"].get("body") for event in bob.history(room)]
    secrets = [body for body in bodies if body and body.startswith("secret")]
    expect(not secrets, f"a late comer reads {len(secrets)} hidden messages")
