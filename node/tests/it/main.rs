//! Tests of the house and of the whole binary.

mod house;
