"""Memory of training. A first measure: the peak of the process (CPU) or of the allocator (CUDA)."""

from adapt.memory.peak import PeakMemory

__all__ = ["PeakMemory"]
