"""The checks, as they register themselves."""

import collections

SECONDS = 60

Check = collections.namedtuple("Check", "name run seconds alone")
CHECKS = []


def check(function=None, *, name=None, seconds=SECONDS, alone=False):
    """Registers a check, which is given the home of its room and the other server.

    `seconds` bounds it; `alone` keeps all others away from the servers meanwhile.
    """
    def register(function):
        CHECKS.append(Check(name or function.__name__, function, seconds, alone))
        return function
    return register(function) if function else register
