# SPDX-License-Identifier: Apache-2.0
"""The promise behind every gap test: what was published is delivered or told as lost, never both."""


def account(client, published, cursor, gaps=1, reason=None):
    """Checks that of the ids @published above @cursor each one is either an event of @client or in a gap.

    Returns the gaps as [(from, to, reason)].
    """
    told = []
    for gap in client.gaps:
        start = cursor if gap["from"] is None else int(gap["from"])
        told.append((start, int(gap["to"]), gap["reason"]))
        if gap["id"] is None:  # it would take the client past events that are still to come
            assert any(id and id <= int(gap["to"]) for id in client.ids), gap
        else:
            assert int(gap["id"]) == int(gap["to"]), gap
        assert start < int(gap["to"]) or gap["from"] is None, gap
    got = [i for i in client.ids if i is not None]
    assert got == sorted(set(got)), f"not strictly increasing: {got[:50]}"
    moves = client.all_ids
    assert moves == sorted(moves), f"the cursor went back: {moves[:50]}"
    for id in published:
        covered = sum(start < id <= end for start, end, _ in told)
        if id <= cursor:
            assert id not in got, f"{id} came again"
            continue
        assert covered + (id in got) == 1, (
            f"{id} is in {covered} gaps and {'was' if id in got else 'was not'} delivered; "
            f"cursor {cursor}, gaps {told}, got {got[:5]}…{got[-5:]}"
        )
    assert len(told) == gaps, told
    if reason and gaps:
        assert {r for _, _, r in told} == {reason}, told
    return told
