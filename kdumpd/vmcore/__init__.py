"""The crashed kernel as it lies in a vmcore: ELF, VMCOREINFO, page tables, mem_map and the printk ring buffer."""
