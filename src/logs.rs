//! Records: levels by module, stderr and a rotating file.
