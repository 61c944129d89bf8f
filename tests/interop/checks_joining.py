"""How people of one server come into a room of the other, in every version of rooms."""

from people import User, expect, expect_equal, quote, together, unique
from registry import check

VERSIONS = [str(number) for number in range(1, 13)]


def talk(room, *users):
    """Everybody says something, and everybody sees it."""
    texts = {user: f"{unique('hello')} from {user}" for user in users}
    for user, text in texts.items():
        user.say(room, text)
    for user in users:
        user.wait_message(room, *texts.values())


@check
def join_by_id(home, away):
    """A room is joined by its ID with the other server in `via`, and both see the same of it."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_public_room(name="Pond", topic="Frogs")
    expect_equal(bob.join(room, home), room, "the answer to the join")
    alice.wait_membership(room, bob, "join")
    bob.wait_own(room, "join")
    expect_equal(bob.room(room).content("m.room.name"), {"name": "Pond"}, "the name")
    expect_equal(bob.room(room).membership_of(alice), "join", "the creator's membership")
    talk(room, alice, bob)
    expect_equal(
        sorted(bob.get(f"/rooms/{quote(room)}/joined_members")["joined"]), sorted([alice.id, bob.id]), "the members")


@check
def join_by_alias(home, away):
    """A room is joined by its alias, which only its home knows."""
    alice, bob = User(home, "alice"), User(away, "bob")
    name = unique("pond")
    room = alice.create_public_room(room_alias_name=name)
    expect_equal(bob.join(f"#{name}:{home.name}"), room, "the answer to the join")
    talk(room, alice, bob)
    bob.try_join(f"#{unique('nowhere')}:{home.name}").expect_refused()


@check
def second_join(home, away):
    """Another user joins through the own server, which is in the room already."""
    alice, bob, carol = User(home, "alice"), User(away, "bob"), User(away, "carol")
    room = alice.create_public_room()
    bob.join(room, home)
    talk(room, alice, bob)
    carol.join(room, home)
    alice.wait_membership(room, carol, "join")
    talk(room, alice, bob, carol)


@check
def join_refused(home, away):
    """Nobody joins a room that is for the invited, or one that does not exist."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_room(preset="private_chat")
    expect_equal(bob.try_join(room, home).expect_refused()["errcode"], "M_FORBIDDEN", "the refusal")
    answer = bob.try_join(f"!nothing:{home.name}", home)
    expect(answer.status >= 400, f"{answer.request} should fail, but answered {answer.status}")
    expect_equal(alice.get(f"/rooms/{quote(room)}/joined_members")["joined"].keys(), {alice.id}, "the members")


@check
def invite(home, away):
    """An invite arrives with what one should know of the room, and opens it."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_room(preset="private_chat", name="Den")
    alice.act(room, "invite", bob, reason="come in").expect()
    bob.wait_own(room, "invite")
    invited = bob.room(room)
    expect_equal(invited.content("m.room.name"), {"name": "Den"}, "the name in the invite")
    expect(("m.room.create", "") in invited.stripped, "the invite should have the create event")
    mine = invited.stripped["m.room.member", bob.id]
    expect_equal((mine["sender"], mine["content"].get("reason")), (alice.id, "come in"), "the invite")
    alice.wait_membership(room, bob, "invite")
    bob.join(room)
    alice.wait_membership(room, bob, "join")
    talk(room, alice, bob)


@check
def invite_at_creation(home, away):
    """Those who are invited with the room's creation are asked, too."""
    alice, bob, carol = User(home, "alice"), User(away, "bob"), User(home, "carol")
    room = alice.create_room(preset="private_chat", invite=[bob.id, carol.id])
    for user in (bob, carol):
        user.wait_own(room, "invite")
        user.join(room)
    talk(room, alice, bob, carol)


@check
def invite_rejected(home, away):
    """An invite is rejected, which the home learns, and given again."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_room(preset="private_chat")
    for _ in range(2):
        alice.act(room, "invite", bob).expect()
        bob.wait_own(room, "invite")
        bob.act(room, "leave").expect()
        alice.wait_membership(room, bob, "leave")
        bob.wait_own(room, "leave")
    alice.act(room, "invite", bob).expect()
    bob.wait_own(room, "invite")
    bob.join(room)
    talk(room, alice, bob)


@check
def invite_from_afar(home, away):
    """One who joined invites somebody of the home, and somebody of the own server."""
    alice, bob, carol, dave = User(home, "alice"), User(away, "bob"), User(home, "carol"), User(away, "dave")
    room = alice.create_room(preset="private_chat")
    alice.act(room, "invite", bob).expect()
    bob.wait_own(room, "invite")
    bob.join(room)
    for user in (carol, dave):
        bob.act(room, "invite", user).expect()
        user.wait_own(room, "invite")
        user.join(room)
    talk(room, alice, bob, carol, dave)


@check
def direct_message(home, away):
    """A direct chat: both have all power, and the other is told that it is one."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[bob.id])
    bob.wait_own(room, "invite")
    expect_equal(bob.room(room).stripped["m.room.member", bob.id]["content"].get("is_direct"), True, "is_direct")
    bob.join(room)
    talk(room, alice, bob)
    bob.put_state(room, "m.room.topic", {"topic": "ours"})
    alice.wait_room(room, "the topic", lambda view: view.content("m.room.topic") == {"topic": "ours"})


@check(seconds=120)
def group_of_20(home, away):
    """Ten users of either server talk, and all see all."""
    alice = User(home, "alice")
    room = alice.create_public_room()
    users = [alice] + [User(home, "frog") for _ in range(9)] + [User(away, "toad") for _ in range(10)]
    users[10].join(room, home)
    together(*(lambda user=user: user.join(room, home) for user in users[1:10] + users[11:]))
    for user in users:
        user.wait_room(room, "20 members", lambda view: sum(
            event["content"].get("membership") == "join" for (kind, _), event in view.state.items()
            if kind == "m.room.member") == 20)
    talk(room, *users)


@check
def leave_and_return(home, away):
    """All of a server leave; what is said meanwhile is there when they are back."""
    alice, bob = User(home, "alice"), User(away, "bob")
    room = alice.create_public_room()
    bob.join(room, home)
    talk(room, alice, bob)
    bob.act(room, "leave").expect()
    alice.wait_membership(room, bob, "leave")
    alice.say(room, "alone")
    alice.put_state(room, "m.room.name", {"name": "Quiet"})
    bob.join(room, home)
    bob.wait_room(room, "the new name", lambda view: view.content("m.room.name") == {"name": "Quiet"})
    talk(room, alice, bob)
    bodies = [event["content"].get("body") for event in bob.history(room)]
    expect("alone" in bodies, f"the history should have what was said meanwhile: {bodies}")


def version_check(version):
    @check(name=f"room_version_{version}")
    def run(home, away):
        alice, bob, carol = User(home, "alice"), User(away, "bob"), User(away, "carol")
        room = alice.create_public_room(
            room_version=version, power_level_content_override={"users_default": 0, "events": {"m.room.name": 0}})
        expect_equal(alice.get_state(room, "m.room.create").get("room_version", "1"), version, "the version")
        expect_equal(bob.join(room, home), room, "the answer to the join")
        talk(room, alice, bob)
        bob.put_state(room, "m.room.name", {"name": "From afar"})
        alice.wait_room(room, "the name", lambda view: view.content("m.room.name") == {"name": "From afar"})
        alice.put_state(room, "m.room.topic", {"topic": "From home"})
        bob.wait_room(room, "the topic", lambda view: view.content("m.room.topic") == {"topic": "From home"})
        slip = bob.say(room, "slip")
        alice.wait_message(room, "slip")
        redaction = alice.redact(room, slip)
        bob.wait_room(room, "the redaction", lambda view: any(
            event["event_id"] == redaction for event in view.timeline))
        expect_equal(bob.get_event(room, slip)["content"], {}, "the redacted content")
        alice.act(room, "invite", carol).expect()
        carol.wait_own(room, "invite")
        carol.join(room)
        talk(room, alice, bob, carol)
        alice.act(room, "kick", carol).expect()
        carol.wait_own(room, "leave")
        talk(room, alice, bob)
    run.__doc__ = f"""A room of version {version}: join, talk, state, redaction, invite and kick."""


for _version in VERSIONS:
    version_check(_version)


def restricted_room(user, allowed, rule="restricted", **more):
    rules = {"join_rule": rule, "allow": [{"type": "m.room_membership", "room_id": allowed}]}
    return user.create_room(
        preset="private_chat", room_version="11",
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rules}], **more)


@check
def restricted_join(home, away):
    """Members of another room may join; nobody else may."""
    alice, bob, carol = User(home, "alice"), User(away, "bob"), User(away, "carol")
    club = alice.create_public_room()
    room = restricted_room(alice, club)
    bob.try_join(room, home).expect_refused()
    bob.join(club, home)
    alice.wait_membership(club, bob, "join")
    bob.join(room, home)
    alice.wait_membership(room, bob, "join")
    talk(room, alice, bob)
    # Now the own server is in the room, but nobody there may invite.
    carol.try_join(room, home).expect_refused()
    carol.join(club, home)
    alice.wait_membership(club, carol, "join")
    carol.join(room, home)
    talk(room, alice, bob, carol)
    member = alice.get_state(room, "m.room.member", bob.id)
    expect_equal(member.get("join_authorised_via_users_server"), alice.id, "who let the first in")


@check
def knock(home, away):
    """One knocks, is let in or sent away, and may take the knock back."""
    # That a knock was refused reaches only servers in the room; so nobody waits for it.
    alice, bob, carol = User(home, "alice"), User(away, "bob"), User(away, "carol")
    room = alice.create_room(
        preset="private_chat", name="Door", room_version="11",
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}])

    def do_knock(user):
        user.post(f"/knock/{quote(room)}", {"reason": "please"}, via=home.name, server_name=home.name)
        alice.wait_membership(room, user, "knock")
        user.wait_own(room, "knock")

    bob.try_join(room, home).expect_refused()
    do_knock(carol)
    carol.act(room, "leave").expect()
    if away.kind != "synapse":  # which does not tell the room
        alice.wait_membership(room, carol, "leave")
    do_knock(bob)
    expect_equal(bob.room(room).content("m.room.name"), {"name": "Door"}, "the name that one who knocks sees")
    alice.act(room, "kick", bob, reason="no").expect()
    alice.wait_membership(room, bob, "leave")
    do_knock(bob)
    alice.act(room, "invite", bob).expect()
    bob.wait_own(room, "invite")
    bob.join(room, home)
    talk(room, alice, bob)


@check
def knock_restricted(home, away):
    """Members of another room may join, and others may knock."""
    alice, bob, carol = User(home, "alice"), User(away, "bob"), User(away, "carol")
    club = alice.create_public_room()
    room = restricted_room(alice, club, "knock_restricted")
    bob.join(club, home)
    alice.wait_membership(club, bob, "join")
    bob.join(room, home)
    carol.try_join(room, home).expect_refused()
    carol.post(f"/knock/{quote(room)}", {}, via=home.name, server_name=home.name)
    alice.wait_membership(room, carol, "knock")
    alice.act(room, "invite", carol).expect()
    carol.wait_own(room, "invite")
    # Synapse does not show its users an invite that it knew already; but what comes after it.
    alice.say(room, "invited")
    bob.wait_message(room, "invited")
    carol.join(room, home)
    talk(room, alice, bob, carol)
