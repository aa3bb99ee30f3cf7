//! Floor 5: the assembly.
