//! The scratch folder by itself.
