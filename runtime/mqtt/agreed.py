"""What boards that take pictures and the client that sends them agree on."""

REQUESTS = "rkyolo/requests"
"""The topic of pictures for the boards, unless the configuration names another."""

LARGEST_MB = 16.0
"""An encoded picture that any board takes, unless its configuration says less."""
