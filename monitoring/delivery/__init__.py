"""What leaves the desk for the owner's phone: notices and reports, by Telegram, each exactly once.

`planning` makes deliveries of notices: what is told, folded under its cause, held for the morning
or muted. `sending` takes the oldest of each chat and sends it by `transport`, which speaks to
Telegram. `post` queues a report. A delivery is a row before it is sent, and its state is on the
page whatever becomes of it.
"""
