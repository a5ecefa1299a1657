//! Every bound, in one file.
