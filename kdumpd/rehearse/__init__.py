"""A real crash in a throwaway virtual machine, judged from outside."""
