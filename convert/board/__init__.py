"""From the host to the board: a package that installs with no network, and its way there."""
