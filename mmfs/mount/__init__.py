"""A machine in the outer world: mounted by FUSE, in a namespace, as plain files."""
