"""One server is gone for a while. These have both servers for themselves."""

from checks_joining import talk
from checks_talking import meet
from people import User, expect, together, unique
from registry import check

MISSED = 120


def catch_up(user, room, texts):
    """Everything that was missed is there, in order, in the timeline or the history."""
    user.wait_room(room, "the newest message", lambda view: texts[-1] in view.messages() or view.gaps)

    def complete(_):
        bodies = [event["content"].get("body") for event in user.history(room)]
        return [body for body in bodies if body in set(texts)] if set(texts) <= set(bodies) else None
    seen = user.wait_room(room, "all that was missed", complete)
    expect(seen == texts, f"{user} saw what was missed in another order or twice: {len(seen)} of {len(texts)}")


@check(alone=True, seconds=180)
def away_was_killed(home, away):
    """The other server crashes; what is said at home meanwhile reaches it when it is back."""
    alice, bob, room = meet(home, away)
    second = alice.create_public_room()
    bob.join(second, home)
    talk(room, alice, bob)
    away.kill()
    texts = [f"missed {number}" for number in range(MISSED)]
    for text in texts:
        alice.say(room, text)
    alice.say(second, "missed, too")
    alice.put_state(room, "m.room.name", {"name": "Changed"})
    away.start()
    catch_up(bob, room, texts)
    bob.wait_room(room, "the new name", lambda view: view.content("m.room.name") == {"name": "Changed"})
    bob.wait_message(second, "missed, too")
    talk(room, alice, bob)


@check(alone=True, seconds=180)
def home_was_killed(home, away):
    """The home of the room crashes; the other server's people talk on, and it catches up."""
    alice, bob, room = meet(home, away)
    carol = User(away, "carol")
    carol.join(room, home)
    talk(room, alice, bob, carol)
    home.kill()
    texts = [f"missed {number}" for number in range(MISSED)]
    for text in texts:
        bob.say(room, text)
    carol.wait_message(room, texts[-1])
    home.start()
    catch_up(alice, room, texts)
    talk(room, alice, bob, carol)


@check(alone=True, seconds=180)
def killed_while_talking(home, away):
    """The other server crashes in the middle of a talk. What was acknowledged on either side is seen by both."""
    alice, bob, room = meet(home, away)
    talk(room, alice, bob)
    said = {alice: [], bob: []}

    def say_all(user, count, until_gone=False):
        for _ in range(count):
            text = unique(f"{user}")
            try:
                user.say(room, text)
            except Exception:
                if until_gone:
                    return
                raise
            said[user].append(text)

    def crash():
        alice.wait_room(room, "some messages", lambda view: len(view.messages()) > 60)
        away.kill()
    together(lambda: say_all(bob, 2000, until_gone=True), lambda: say_all(alice, 100), crash)
    away.start()
    say_all(bob, 10)
    for user in (alice, bob):
        for texts in said.values():
            catch_up(user, room, texts)
    talk(room, alice, bob)
