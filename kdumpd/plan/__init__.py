"""What has to be done, as a pure function of policy, facts and state; and what gathers those and carries it out."""
