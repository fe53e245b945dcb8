"""The verbs, declared in one table, and the outermost door."""
