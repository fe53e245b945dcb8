"""The policy: what /etc/kdumpd.yaml allows, how it is checked, and the typed value that everything else reads."""
