"""Whether this machine is armed and why not, and everything beside it that a person on call asks for."""
