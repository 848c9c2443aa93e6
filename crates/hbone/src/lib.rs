//! lateen-hbone
