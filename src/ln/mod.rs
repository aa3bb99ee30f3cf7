//! Floor 4: Lightning (LDK).
