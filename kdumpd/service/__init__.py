"""The resident service: sees what changes, has it put right, and says at any time whether this machine is armed.

    watch ──event──►            ──action──► children (kdumpd apply, kdumpd status, …)
    look  ──────────►  loop ────────────►   notify, journal, records, kdumpd-armed.service
    clock ──────────►

`loop` is pure; `daemon` joins it to the machine. Imports the standard library and systemd-python alone, since all of it
stays in memory: the work is done by children.
"""
