"""The step values that a plan is made of."""
