"""Who may be in a room, and how rooms move."""

from checks_joining import talk
from checks_talking import meet
from people import User, expect, expect_equal, quote
from registry import check


@check
def kick(home, away):
    """One is kicked from either side and may come back."""
    alice, bob, room = meet(home, away)
    alice.act(room, "kick", bob, reason="too loud").expect()
    bob.wait_own(room, "leave")
    expect_equal(bob.room(room).content("m.room.member", bob.id).get("reason"), "too loud", "the reason")
    bob.ask("PUT", f"/rooms/{quote(room)}/send/m.room.message/t", {"msgtype": "m.text", "body": "no"}).expect_refused()
    bob.join(room, home)
    alice.wait_membership(room, bob, "join")
    talk(room, alice, bob)
    # A moderator of the other server kicks somebody of the home.
    carol = User(home, "carol")
    carol.join(room)
    levels = alice.get_state(room, "m.room.power_levels")
    levels.setdefault("users", {})[bob.id] = 50
    alice.put_state(room, "m.room.power_levels", levels)
    bob.wait_room(room, "the new levels", lambda view: view.content("m.room.power_levels")["users"].get(bob.id) == 50)
    bob.wait_membership(room, carol, "join")
    bob.act(room, "kick", carol).expect()
    carol.wait_own(room, "leave")
    alice.wait_membership(room, carol, "leave")


@check
def ban(home, away):
    """One is banned, can't come back by any way, and is unbanned."""
    alice, bob, room = meet(home, away)
    alice.act(room, "ban", bob, reason="enough").expect()
    bob.wait_own(room, "leave")
    expect_equal(bob.room(room).membership_of(bob), "ban", "the membership")
    bob.try_join(room, home).expect_refused()
    alice.act(room, "invite", bob).expect_refused()
    alice.act(room, "unban", bob).expect()
    alice.wait_membership(room, bob, "leave")
    bob.join(room, home)
    alice.wait_membership(room, bob, "join")
    talk(room, alice, bob)


@check
def ban_with_others_there(home, away):
    """One is banned while another of the same server stays and sees it."""
    alice, bob, room = meet(home, away)
    carol = User(away, "carol")
    carol.join(room, home)
    alice.wait_membership(room, carol, "join")
    alice.act(room, "ban", bob).expect()
    carol.wait_membership(room, bob, "ban")
    bob.wait_own(room, "leave")
    bob.try_join(room).expect_refused()
    talk(room, alice, carol)


@check
def server_acl(home, away):
    """A server that the room's ACL denies is not heard there, and is when it is allowed again."""
    alice, bob, room = meet(home, away)
    free = alice.create_public_room()
    bob.join(free, home)
    alice.wait_membership(free, bob, "join")
    alice.put_state(room, "m.room.server_acl", {"allow": ["*"], "deny": [away.name.rsplit(":", 1)[0]]})
    bob.wait_room(room, "the ACL", lambda view: view.content("m.room.server_acl"))
    bob.ask("PUT", f"/rooms/{quote(room)}/send/m.room.message/t1", {"msgtype": "m.text", "body": "denied"})
    # Transactions go in order: once this is seen, the other would have been.
    bob.say(free, "marker")
    alice.wait_message(free, "marker")
    expect("denied" not in alice.room(room).messages(), "the denied server was heard")
    User(away, "carol").try_join(room, home)
    alice.say(free, "second marker")
    alice.wait_message(free, "second marker")
    joined = [key for (kind, key), event in alice.room(room).state.items()
              if kind == "m.room.member" and event["content"]["membership"] == "join"]
    expect_equal(sorted(joined), sorted([alice.id, bob.id]), "the members of the room with an ACL")
    alice.put_state(room, "m.room.server_acl", {"allow": ["*"], "deny": []})
    bob.wait_room(room, "the lifted ACL", lambda view: view.content("m.room.server_acl").get("deny") == [])
    bob.say(room, "allowed")
    alice.wait_message(room, "allowed")
    talk(room, alice, bob)


@check
def power_levels(home, away):
    """Levels are obeyed on both sides: one without power can't change the room, one with it can."""
    alice, bob, room = meet(home, away)
    topic = f"/rooms/{quote(room)}/state/m.room.topic"
    bob.ask("PUT", topic, {"topic": "mine"}).expect_refused()
    levels = alice.get_state(room, "m.room.power_levels")
    alice.put_state(room, "m.room.power_levels", levels | {"users": levels.get("users", {}) | {bob.id: 90}})
    bob.wait_room(room, "the new levels", lambda view: view.content("m.room.power_levels")["users"].get(bob.id) == 90)
    bob.put(topic, {"topic": "mine"})
    alice.wait_room(room, "the topic", lambda view: view.content("m.room.topic") == {"topic": "mine"})


@check
def upgrade(home, away):
    """A room is upgraded; the other server's user follows the tombstone."""
    alice, bob, room = meet(home, away, room_version="10", name="Old pond")
    for target in ("11", "12"):
        following = alice.post(f"/rooms/{quote(room)}/upgrade", {"new_version": target})["replacement_room"]
        bob.wait_room(room, "the tombstone", lambda view: (
            view.content("m.room.tombstone") or {}).get("replacement_room") == following)
        expect_equal(bob.join(following, home), following, "the answer to the join")
        bob.wait_own(following, "join")
        create = bob.room(following).content("m.room.create")
        expect_equal((create["room_version"], create["predecessor"]["room_id"]), (target, room), "the new room")
        expect_equal(bob.room(following).content("m.room.name"), {"name": "Old pond"}, "the name of the new room")
        talk(following, alice, bob)
        room = following
