"""Families of denoisers: all that depends on a checkpoint's architecture, one file each."""
