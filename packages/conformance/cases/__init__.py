"""What a client meets, and what is required of it, in the order of the table in docs/conformance.md, which has the cases' documentation."""

CASES = {}


def case(*needs, topics=("live:1",), token=False):
    """Makes a function a case; `needs` names what a client may lack: `topics`, `token`, `poll`."""
    def add(play):
        async def run(x):
            await x.start(*topics, token=token)
            await play(x)
        run.__doc__, run.needs = play.__doc__, needs
        CASES[play.__name__.replace("_", "-")] = run
        return play
    return add


# Each adds its cases.
from . import reading, cuts, repeats, waiting, rights, topics, polls  # noqa: E402, F401
