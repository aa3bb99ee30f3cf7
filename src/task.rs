//! Named, joined tasks and shutdown.
